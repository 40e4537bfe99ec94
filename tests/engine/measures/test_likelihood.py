"""Measures from stored pairs, against the paper's definitions in plain Python."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, pstdev

import polars as pl
import pytest

from engine.errors import InputError
from engine.measures.compute import compute_measures
from engine.measures.measure_testing import draw_table

TOLERANCE = 1e-9


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One stored set of pairs: 30 tasks, ragged outputs, probabilities from 1 to 1e-8."""
    path = tmp_path_factory.mktemp("pairs") / "pairs.parquet"
    draw_table("pairs", 7, n_tasks=30, n_instances=6, k=8).write_parquet(path)
    return path


Grid = dict[str, dict[int, tuple[float, int]]]


def read_plainly(path: Path) -> dict[str, Grid]:
    """(log-probability, length) by task, instance and perturbation."""
    tasks: dict[str, Grid] = defaultdict(lambda: defaultdict(dict))
    for row in pl.read_parquet(path).to_dicts():
        pair = (row["logprob"], row["n_tokens"])
        tasks[row["task_id"]][row["instance_id"]][row["perturbation"]] = pair
    return tasks


def p(pair: tuple[float, int]) -> float:
    return math.exp(pair[0] / pair[1])


def moves(grid: Grid) -> list[list[float]]:
    return [[p(row[j]) - p(row[0]) for j in sorted(row) if j > 0] for row in grid.values()]


PLAIN: dict[str, Callable[[Grid], float]] = {
    "prompt_uncertainty": lambda grid: fmean(abs(move) for row in moves(grid) for move in row),
    "prompt_uncertainty_signed": lambda grid: fmean(move for row in moves(grid) for move in row),
    "prompt_uncertainty_max": lambda grid: fmean(max(map(abs, row)) for row in moves(grid)),
    "prompt_uncertainty_std": lambda grid: fmean(
        pstdev(p(pair) for pair in row.values()) for row in grid.values()
    ),
    "prompt_uncertainty_relative": lambda grid: fmean(
        abs(p(row[j]) - p(row[0])) / p(row[0]) for row in grid.values() for j in row if j > 0
    ),
    "prediction_probability": lambda grid: fmean(p(row[0]) for row in grid.values()),
    "perplexity": lambda grid: math.exp(-fmean(row[0][0] / row[0][1] for row in grid.values())),
}


@pytest.mark.parametrize("name", sorted(PLAIN))
def test_every_measure_equals_its_formula(stored: Path, name: str) -> None:
    found = compute_measures(pl.read_parquet(stored), names=[name])
    plain = {task_id: PLAIN[name](grid) for task_id, grid in read_plainly(stored).items()}
    assert found["task_id"].to_list() == list(plain)
    for task_id, value in found.iter_rows():
        assert value == pytest.approx(plain[task_id], rel=TOLERANCE, abs=TOLERANCE)


def test_gold_versions_are_the_same_formulas(stored: Path) -> None:
    pairs = pl.read_parquet(stored)
    gold = compute_measures(pairs, "gold_pairs")
    own = compute_measures(pairs)
    assert gold.columns == [
        "task_id", "gold_prompt_uncertainty", "gold_probability", "gold_perplexity",
    ]  # fmt: skip
    for name, same in (
        ("gold_prompt_uncertainty", "prompt_uncertainty"),
        ("gold_probability", "prediction_probability"),
        ("gold_perplexity", "perplexity"),
    ):
        assert gold[name].to_list() == pytest.approx(own[same].to_list(), rel=1e-12)


def test_relative_moves_of_very_unlikely_outputs() -> None:
    """Where the probabilities themselves have no digits left, their ratio still has."""
    pairs = draw_table("pairs", 0, n_tasks=1, n_instances=1, k=1).with_columns(
        n_tokens=pl.lit(1, pl.Int64),
        logprob=pl.Series([-800.0, -800.0 + math.log(3)]),
        probability=pl.Series([0.0, 0.0]),
    )
    found = compute_measures(pairs, names=["prompt_uncertainty_relative"])
    assert found["prompt_uncertainty_relative"][0] == pytest.approx(2.0, rel=1e-9)


def test_a_perplexity_beyond_all_numbers_is_told() -> None:
    pairs = draw_table("pairs", 0, n_tasks=1, n_instances=1, k=1).with_columns(
        n_tokens=pl.lit(1, pl.Int64), logprob=pl.lit(-800.0), probability=pl.lit(0.0)
    )
    with pytest.raises(InputError, match=r"record t0, field 'perplexity': comes to inf"):
        compute_measures(pairs, names=["perplexity"])


def test_the_flip_rate_is_unknown_where_older_pairs_do_not_tell() -> None:
    table = draw_table("pairs", n_tasks=3)
    flips = (
        table.filter(pl.col("perturbation") > 0)
        .group_by("task_id", maintain_order=True)
        .agg(flip_rate=1 - pl.col("is_greedy").mean())
    )
    found = compute_measures(table, names=["flip_rate"])
    assert found["flip_rate"].to_list() == pytest.approx(flips["flip_rate"].to_list())
    older = compute_measures(table.drop("is_greedy"), names=["flip_rate"])
    assert older["flip_rate"].to_list() == [None] * 3
    one_unknown = table.with_columns(
        is_greedy=pl.when(pl.int_range(pl.len()) != 1).then(pl.col("is_greedy"))
    )
    found = compute_measures(one_unknown, names=["flip_rate"])
    assert found["flip_rate"].is_null().to_list() == [True, False, False]


def test_gold_outputs_do_not_flip() -> None:
    original = pl.col("perturbation") == 0
    table = draw_table("pairs", n_tasks=2).with_columns(
        is_greedy=pl.when(original).then(pl.col("task_id") == "t1").otherwise("is_greedy")
    )
    found = compute_measures(table, names=["flip_rate"])
    assert found["flip_rate"].is_null().to_list() == [True, False]
