from __future__ import annotations

import polars as pl
import pytest

from engine.errors import InputError
from engine.measures.compute import compute_measures, compute_row_measures
from engine.measures.measure_registry import find_measures
from engine.measures.measure_testing import draw_table

PAIRS = draw_table("pairs")


def test_a_row_per_task_in_order_of_appearance() -> None:
    found = compute_measures(PAIRS.reverse())
    assert found["task_id"].to_list() == ["t3", "t2", "t1", "t0"]
    assert found.columns == ["task_id", *(each.name for each in find_measures([], "pairs"))]


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        (PAIRS.drop("logprob"), r"pairs.parquet, field 'logprob': the column is missing; there"),
        (PAIRS.with_columns(pl.col("n_tokens").cast(pl.Float64)), r"'n_tokens': holds Float64"),
        (
            PAIRS.with_columns(probability=pl.when(pl.col("task_id") != "t2").then("probability")),
            r"record t2, field 'probability': holds nothing",
        ),
        (pl.concat([PAIRS, PAIRS[7:8]]), r"record t0/i1/j=2: is there twice"),
        (
            PAIRS.filter((pl.col("task_id") != "t1") | (pl.col("perturbation") > 0)),
            r"record t1/i0: has no original prompt",
        ),
        (
            PAIRS.with_columns(weights_version=pl.col("task_id")),
            r"'weights_version': rows of several weights: t0, t1, t2, t3",
        ),
        (
            PAIRS.with_columns(weights_version=pl.when(pl.col("task_id") > "t2").then("task_id")),
            r"'weights_version': rows of several weights: None, t3",
        ),
        (
            PAIRS.with_columns(n_tokens=pl.lit(0, pl.Int64)),
            r"record t0/i0/j=0, field 'n_tokens': must be at least 1",
        ),
        (
            PAIRS.with_columns(probability=pl.col("probability") + 3),
            r"record t0, field 'prompt_uncertainty_std': comes to|'prediction_probability'",
        ),
    ],
)
def test_what_is_wrong_with_a_table_is_said(table: pl.DataFrame, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        compute_measures(table, source="pairs.parquet")


def test_a_measure_that_is_named_twice_is_there_once() -> None:
    assert compute_measures(PAIRS, names=["perplexity", "perplexity"]).width == 2


@pytest.mark.parametrize("given", ["prompt", "input"])
def test_an_answer_without_one_of_its_contexts_is_told(given: str) -> None:
    answers = draw_table("gold_answers")
    lacks = (pl.col("given") == given) & (pl.col("task_id") == "t1")
    with pytest.raises(InputError, match=rf"record t1/i0, field 'given': has no row of '{given}'"):
        compute_measures(answers.filter(~lacks), "gold_answers")


def test_rows_of_two_tasks_are_not_taken_for_one() -> None:
    table = draw_table("pairs", n_tasks=2, n_instances=2, k=1)
    first = pl.col("task_id") == "t0"
    table = table.with_columns(
        task_id=pl.when(first).then(pl.lit("glue")).otherwise(pl.lit("glue/cola")),
        instance_id=pl.when(first).then("cola/" + pl.col("instance_id")).otherwise("instance_id"),
    )
    with pytest.raises(InputError, match=r"record glue/cola/i., field 'task_id': is the name of"):
        compute_row_measures(table, "pairs.parquet")
