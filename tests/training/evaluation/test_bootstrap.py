"""Intervals hold what they say, of few values too; differences are found where they are."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluation.bootstrap import crossed_difference, mean_interval, share_interval


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
    found += [
        crossed_difference(made_up(seed, 0.5, 0.5, 1.0)[:1].tolist(), "a", 400)
        for seed in range(50)
    ]
    assert all(each and (each.p < 0.05) == (not each.low <= 0 <= each.high) for each in found)


@pytest.mark.parametrize(("n_seeds", "n_tasks"), [(1, 3), (3, 3), (3, 6), (5, 4), (10, 4)])
def test_few_tasks_widen_the_interval_beside_few_seeds(n_seeds: int, n_tasks: int) -> None:
    rng = np.random.default_rng(n_seeds)
    noise = 0.3 * rng.normal(size=(200, n_seeds, n_tasks))
    tables = rng.normal(size=(200, 1, n_tasks)) + noise
    found = [crossed_difference(table.tolist(), "a", 400) for table in tables]
    assert np.mean([each is not None and each.low <= 0 <= each.high for each in found]) > 0.93


def test_p_is_that_of_student_where_tasks_are_equal() -> None:
    found = crossed_difference([[float(mean)] * 16 for mean in range(1, 6)], "a")
    assert found is not None
    assert found.p == pytest.approx(0.0132, rel=0.3)
    nothing = crossed_difference([[0.0] * 16] * 5, "a")
    assert nothing is not None
    assert nothing.p == 1.0


@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_intervals_of_few_values_hold_the_mean(n: int) -> None:
    values = np.random.default_rng(n).normal(1.0, 2.0, size=(400, n))
    found = [mean_interval(row.tolist(), "x", 400) for row in values]
    held = [each is not None and each[0] <= 1.0 <= each[1] for each in found]
    assert np.mean(held) >= 0.9


@pytest.mark.parametrize(
    ("true", "n", "expected"), [(0, 5, (0.0, 43.45)), (5, 5, (56.55, 100.0)), (1, 4, (4.56, 69.94))]
)
def test_a_share_has_wilsons_interval(true: int, n: int, expected: tuple[float, float]) -> None:
    assert share_interval([index < true for index in range(n)]) == pytest.approx(expected, abs=0.01)
    assert share_interval([True]) is None


def test_one_task_says_nothing() -> None:
    assert crossed_difference([[1.0], [2.0]], "a") is None
    one_seed = crossed_difference([[1.0, 2.0, 3.0]], "a")
    assert one_seed is not None
    assert one_seed.low < 0 < one_seed.high, "three tasks say little"
