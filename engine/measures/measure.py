"""What a measure is: a formula over one table, with everything said that its reader must know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import polars as pl

Input = Literal["pairs", "gold_pairs", "label_probabilities", "samples"]

_PAIRS: dict[str, pl.DataType] = {
    "task_id": pl.String(),
    "instance_id": pl.String(),
    "perturbation": pl.Int64(),
    "n_tokens": pl.Int64(),
    "logprob": pl.Float64(),
    "probability": pl.Float64(),
}

INPUTS: dict[Input, dict[str, pl.DataType]] = {
    "pairs": _PAIRS,
    "gold_pairs": _PAIRS,
    "label_probabilities": {
        "task_id": pl.String(),
        "instance_id": pl.String(),
        "perturbation": pl.Int64(),
        "label": pl.String(),
        "probability": pl.Float64(),
    },
    "samples": {
        "task_id": pl.String(),
        "instance_id": pl.String(),
        "perturbation": pl.Int64(),
        "sample": pl.Int64(),
        "output": pl.String(),
    },
}
"""Columns of each kind of table that a measure may be computed from.

`pairs`: the stored pairs, `pairs.parquet`, whose reference outputs are the model's own.
`gold_pairs`: the same, where the reference outputs are the gold outputs.
`label_probabilities`: how likely each admissible label of a classification is; a row per label.
`samples`: outputs drawn from the model; a row per draw, `sample` counts from 0.
In all of them `perturbation` is j, and 0 is the original prompt.
"""


@dataclass(frozen=True)
class Measure:
    """A number per task.

    Attributes:
        name: The column it fills; lower case, words joined by underscores.
        title: Its full name.
        formula: In plain text, with p(i, j), i, j, n and k as the project uses them.
        source: Where the formula comes from.
        needs: The table it is computed from, a key of `INPUTS`.
        uncertain: The end at which the model wavers: `high` or `low` values.
        lowest: The least value it can take.
        highest: The greatest value it can take; infinity if there is none.
        compute: From that table, a row per task with the columns `task_id` and `value`, in any
            order. The value of a task depends on the rows of that task alone, not on their order.
    """

    name: str
    title: str
    formula: str
    source: str
    needs: Input
    uncertain: Literal["high", "low"]
    lowest: float
    highest: float
    compute: Callable[[pl.LazyFrame], pl.LazyFrame]


def mean_over_instances(per_instance: pl.LazyFrame) -> pl.LazyFrame:
    """The mean of `value` over the rows of each task."""
    return per_instance.group_by("task_id", maintain_order=True).agg(pl.col("value").mean())
