"""Ranking estimates of a table of pairs are those of the race's model."""

import numpy as np
import polars as pl
import pytest

from engine.design.assisted import Evidence, estimate
from engine.design.measurement import Expectation, Measurement, shift
from engine.design.ranking_columns import components_of_pairs, ranking_columns
from engine.errors import InputError
from engine.variance.analysis import Analysis
from engine.variance.pooling import Pooled


def make_pairs(n_tasks: int) -> pl.DataFrame:
    """Three instances and two perturbations each."""
    rng = np.random.default_rng(0)
    rows = []
    for task in range(n_tasks):
        for instance in "cab":
            n_tokens = int(rng.integers(1, 9))
            original = rng.uniform(0.3, 0.6)
            for j in range(3):
                move = rng.gamma(2, 0.01 * (1 + task % 4)) if j else 0.0
                prompt = 20 - j * (task % 3)
                p = original - min(move, 0.2)
                rows.append((f"task-{task}", instance, j, prompt, n_tokens, p))
    names = ["task_id", "instance_id", "perturbation", "n_prompt_tokens", "n_tokens", "probability"]
    return pl.DataFrame(rows, schema=names, orient="row")


def test_they_are_the_model_s_estimates() -> None:
    pairs = make_pairs(12)
    found = ranking_columns(pairs, {"task-2": 0.8})
    squares: list[Analysis] = []
    expected: list[Expectation] = []
    for frame in pairs.partition_by("task_id", maintain_order=True):
        p = frame["probability"].to_numpy().reshape(3, 3)
        lengths = frame.filter(pl.col("perturbation") == 0)["n_tokens"].to_list()
        # Of 20 tokens one is dropped by the first perturbation, two by the second, or twice that.
        dropped = len(squares) % 3
        shifts = [shift(20 - dropped, 20), shift(20 - 2 * dropped, 20)]
        moves = np.abs(p[:, 1:] - p[:, :1])
        squares.append(Analysis.of(moves))
        measured = Measurement.of_likelihoods(moves, p[:, 0], lengths)
        expected.append(Expectation.of(measured, shifts, 0.8 if len(squares) == 3 else 1.0))
    model = estimate(Evidence.of(squares, expected))
    assert found["task_id"].to_list() == [f"task-{task}" for task in range(12)]
    assert found["ranking_estimate"].to_numpy() == pytest.approx(model.value)
    assert found["ranking_error"].to_numpy() == pytest.approx(model.error)
    assert (found["ranking_error"] > 0).all()


def test_a_table_with_holes_is_ranked_by_what_is_there() -> None:
    pairs = make_pairs(8)
    whole = ranking_columns(pairs)
    # Of the first task the first perturbed pair of its second instance.
    some = ranking_columns(pairs.filter(pl.int_range(pl.len()) != 4))
    changed = (whole["ranking_estimate"] - some["ranking_estimate"]).abs()
    assert changed.arg_max() == 0


def test_a_table_without_an_original_is_refused() -> None:
    with pytest.raises(ValueError, match="needs its original"):
        ranking_columns(make_pairs(3)[1:])


def test_components_are_those_of_the_pool_s_tables() -> None:
    pairs = make_pairs(20).with_columns(logprob=pl.col("probability").log() * pl.col("n_tokens"))
    tables = []
    for frame in pairs.partition_by("task_id", maintain_order=True):
        p = frame["probability"].to_numpy().reshape(3, 3)
        tables.append(Analysis.of(np.abs(p[:, 1:] - p[:, :1])))
    found = components_of_pairs(pairs.sample(fraction=1, shuffle=True, seed=0))
    assert found.values == pytest.approx(Pooled.of(tables).relative.values)
    with pytest.raises(InputError, match=r"x.parquet, field 'n_tokens': the column is missing"):
        components_of_pairs(pairs.drop("n_tokens"), "x.parquet")
    with pytest.raises(InputError, match="holds no perturbed pair"):
        components_of_pairs(pairs.clear(), "x.parquet")
