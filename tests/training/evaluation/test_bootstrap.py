"""Paired differences: found where they are, and not where seeds or tasks disagree."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluation.bootstrap import crossed_difference


def made_up(seed: int, mean: float, of_seeds: float, of_tasks: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows, columns = rng.normal(size=(8, 1)), rng.normal(size=(1, 20))
    noise = rng.normal(size=(8, 20))
    return mean + of_seeds * rows + of_tasks * columns + noise


def test_a_difference_is_found() -> None:
    found = crossed_difference(made_up(0, 2.0, 0.5, 0.5).tolist(), "a")
    assert found is not None
    assert found.low < found.value < found.high
    assert found.low > 0
    assert found.p < 0.01
    assert found == crossed_difference(made_up(0, 2.0, 0.5, 0.5).tolist(), "a")


@pytest.mark.parametrize(("of_seeds", "of_tasks"), [(3.0, 0.1), (0.1, 3.0)])
def test_what_differs_by_seed_or_by_task_widens_the_interval(
    of_seeds: float, of_tasks: float
) -> None:
    wide = crossed_difference(made_up(1, 0.0, of_seeds, of_tasks).tolist(), "a")
    narrow = crossed_difference(made_up(1, 0.0, 0.0, 0.0).tolist(), "a")
    assert wide is not None
    assert narrow is not None
    assert wide.high - wide.low > 4 * (narrow.high - narrow.low)


def test_intervals_hold_nothing_as_often_as_they_say() -> None:
    found = [
        crossed_difference(made_up(seed, 0.0, 1.0, 1.0).tolist(), "a", 400) for seed in range(200)
    ]
    held = [each is not None and each.low <= 0 <= each.high for each in found]
    assert 0.88 <= np.mean(held) <= 1.0
    assert np.mean([each is not None and each.p < 0.05 for each in found]) < 0.12


def test_one_task_says_nothing() -> None:
    assert crossed_difference([[1.0], [2.0]], "a") is None
    one_seed = crossed_difference([[1.0, 2.0, 3.0]], "a")
    assert one_seed is not None
    assert one_seed.low >= 1.0
