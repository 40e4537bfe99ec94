"""The noise of prompt uncertainty, against scorings whose noise is known."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from engine.variance.pair_grid import PairGrid, sensitivity
from engine.variance.rounding_noise import (
    SecondReadings,
    noise_columns,
    noise_in_words,
    rounding_noise,
)

N, K, TASKS = 5, 6, 300
Floats = NDArray[np.float64]


def read(
    p: Floats, scale: Floats, lengths: Floats, n_second: int, rng: np.random.Generator
) -> PairGrid:
    """A scoring of pairs whose probabilities are read with errors of deviation `scale`."""

    def once() -> Floats:
        return np.clip(p + scale * rng.standard_normal(p.shape), 1e-6, 1)

    twice = np.full(p.shape, np.nan)
    twice[:n_second] = once()[:n_second]
    first = once()
    values = {
        "probability": first,
        "logprob": np.log(first) * lengths,
        "n_tokens": np.broadcast_to(lengths, p.shape),
        "second_logprob": np.log(twice) * lengths,
    }
    rows, columns = np.indices(p.shape)
    flat = {name: value.ravel() for name, value in values.items()}
    return PairGrid(rows.ravel(), columns.ravel(), flat, [str(i) for i in range(len(p))])


def scorings(
    noise: float, moved: float = 0.1, n_second: int = 1
) -> tuple[list[PairGrid], list[PairGrid]]:
    """Two scorings of the same pairs of all tasks; the first has second readings."""
    rng = np.random.default_rng(0)
    first, second = [], []
    for _ in range(TASKS):
        lengths = rng.integers(1, 30, (N, 1)).astype(float)
        p = rng.uniform(0.2, 0.8, (N, 1)) + moved * rng.uniform(-1, 1, (N, K + 1))
        scale = noise * sensitivity(p[:, :1], lengths)
        first.append(read(p, scale, lengths, n_second, rng))
        second.append(read(p, scale, lengths, 0, rng))
    return first, second


@pytest.mark.parametrize("noise", [0.01, 0.1])
def test_a_second_scoring_is_off_by_what_is_predicted(noise: float) -> None:
    first, second = scorings(noise)
    found = rounding_noise([SecondReadings.of(grid) for grid in first])
    off = [a.moves.mean() - b.moves.mean() for a, b in zip(first, second, strict=True)]
    errors = np.array([each.error for each in found if each])
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(np.std(off) / np.sqrt(2), rel=0.12)
    # Task by task: those that are predicted to move more do.
    order = np.argsort(errors)
    half = len(off) // 2
    assert np.std(np.array(off)[order[half:]]) > 1.2 * np.std(np.array(off)[order[:half]])


def test_the_floor_is_what_is_read_where_nothing_moves() -> None:
    first, _ = scorings(0.05, moved=0.0)
    found = rounding_noise([SecondReadings.of(grid) for grid in first])
    floors = [each.floor for each in found if each]
    assert np.mean(floors) == pytest.approx(np.mean([g.moves.mean() for g in first]), rel=0.08)


def test_nothing_read_twice_tells_nothing() -> None:
    first, _ = scorings(0.05, n_second=0)
    assert rounding_noise([SecondReadings.of(first[0]), None]) == [None, None]
    table = pl.DataFrame(
        {
            "task_id": "a",
            "instance_id": "1",
            "perturbation": [0, 1],
            "probability": [0.5, 0.25],
            "n_tokens": 1,
        }
    )
    assert noise_columns(table).rows() == [("a", None, None)]
    scores = noise_columns(table).with_columns(prompt_uncertainty=0.25, precision=pl.lit("float32"))
    assert noise_in_words(scores) is None


def test_words_say_what_the_scores_are_worth() -> None:
    scores = pl.DataFrame(
        {
            "prompt_uncertainty": [0.001, 0.1, 0.2, 0.3, None],
            "noise_floor": [0.004] * 4 + [None],
            "noise_error": [0.001] * 4 + [None],
            "precision": "bfloat16",
        }
    )
    assert noise_in_words(scores) == (
        "noise floor 0.004: what rounding (bfloat16) alone makes of prompt uncertainty; 1 tasks "
        "lie below twice that. Read again, tasks move by 0.0014, and the top half keeps 100%"
    )
