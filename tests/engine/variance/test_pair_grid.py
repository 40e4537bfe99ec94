"""One grid, whether it is made of a task's records or of a table of many tasks."""

import math

import numpy as np
import polars as pl
import pytest

from engine.measures.measure_testing import draw_table
from engine.protocol.api import PairScore
from engine.variance import pair_grid
from engine.variance.pair_grid import PairGrid, grids_of_table

# Of j = 0..5 no pair has 2, and t1 has a hole of its own.
PAIRS = draw_table("pairs", 5, n_tasks=5, n_instances=3, k=5).filter(
    (pl.col("perturbation") != 2) | (pl.col("task_id") == "t0"),
    (pl.col("task_id") != "t1") | (pl.col("instance_id") != "i2") | (pl.col("perturbation") != 4),
).with_columns(n_prompt_tokens=100 + pl.int_range(pl.len()))  # fmt: skip


def of_records(task_id: str) -> PairGrid:
    rows = PAIRS.filter(pl.col("task_id") == task_id).drop("task_id").to_dicts()
    return PairGrid.of([PairScore(**row) for row in rows])


@pytest.mark.parametrize("tasks_at_once", [500, 2])
@pytest.mark.parametrize("table", [PAIRS, PAIRS.reverse(), PAIRS.sample(fraction=1, shuffle=True)])
def test_rows_in_any_order_make_the_grids_of_the_records(
    table: pl.DataFrame, tasks_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair_grid, "_TASKS_AT_ONCE", tasks_at_once)
    found = list(grids_of_table(table))
    assert [name for name, _ in found] == list(dict.fromkeys(table["task_id"]))
    for name, grid in found:
        expected = of_records(name)
        assert grid.shape == expected.shape == (3, 6 if name == "t0" else 5)
        for values in ("probabilities", "logprobs", "n_tokens", "n_prompt_tokens", "moves"):
            np.testing.assert_array_equal(getattr(grid, values), getattr(expected, values))


def test_what_is_not_scored_is_nan() -> None:
    grid = of_records("t1")
    assert np.argwhere(~grid.scored).tolist() == [[2, 3]]
    assert math.isnan(grid.probabilities[2, 3])
    assert math.isnan(grid.moves[2, 2])
    assert np.isfinite(grid.moves).sum() == 3 * 4 - 1
    p = grid.probabilities
    assert grid.moves[0, 1] == abs(p[0, 2] - p[0, 0])


def test_originals_alone_make_a_grid_without_moves() -> None:
    ((_, grid),) = grids_of_table(
        PAIRS.filter(pl.col("perturbation") == 0, pl.col("task_id") == "t2")
    )
    assert grid.shape == (3, 1)
    assert grid.moves.shape == (3, 0)
    assert list(grids_of_table(PAIRS.clear())) == []
