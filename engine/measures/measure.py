"""What a measure is: a formula over one table, with everything said that its reader must know."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Input = Literal["pairs", "gold_pairs", "label_probabilities", "samples"]

_PAIRS: dict[str, type] = {
    "task_id": str,
    "instance_id": str,
    "perturbation": int,
    "n_tokens": int,
    "logprob": float,
    "probability": float,
}

INPUTS: dict[Input, dict[str, type]] = {
    "pairs": _PAIRS,
    "gold_pairs": _PAIRS,
    "label_probabilities": {
        "task_id": str,
        "instance_id": str,
        "perturbation": int,
        "label": str,
        "probability": float,
    },
    "samples": {
        "task_id": str,
        "instance_id": str,
        "perturbation": int,
        "sample": int,
        "output": str,
    },
}
"""Columns of each kind of table that a measure may be computed from.

`pairs`: the stored pairs, `pairs.parquet`, whose reference outputs are the model's own.
`gold_pairs`: the same, where the reference outputs are the gold outputs.
`label_probabilities`: how likely each admissible label of a classification is; a row per label.
`samples`: outputs drawn from the model; a row per draw, `sample` counts from 0.
In all of them `perturbation` is j, and 0 is the original prompt.
"""

LabelProbabilities = Mapping[str, Mapping[int, Mapping[str, float]]]
"""How likely each label of one task is, by instance, j and label."""

Outputs = Mapping[str, Mapping[int, Sequence[str]]]
"""The sampled outputs of one task, by instance and j."""


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
        compute: The number of one task, none where it has nothing to be measured by. It is given
            the task's `engine.variance.pair_grid.PairGrid` of pairs and of gold pairs, its
            `LabelProbabilities`, or its `Outputs`; the order of their rows must not matter.
    """

    name: str
    title: str
    formula: str
    source: str
    needs: Input
    uncertain: Literal["high", "low"]
    lowest: float
    highest: float
    compute: Callable[[Any], float | None]


def mean(values: Sequence[float] | NDArray[np.float64]) -> float | None:
    """The mean, over instances for example; none of nothing."""
    return float(np.sum(values)) / len(values) if len(values) else None
