"""What a measure is: a formula over one table, with everything said that its reader must know."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

PLACE: dict[str, type] = {"task_id": str, "instance_id": str, "perturbation": int}
"""The first columns of every table; `perturbation` is j, and 0 is the original prompt."""


@dataclass(frozen=True)
class Input:
    """A kind of table that measures are computed from.

    Attributes:
        name: What measures call it.
        values: Its columns behind `PLACE`.
        draw: Rows of a drawn prompt, for `engine.measures.measure_testing`; told the tokens of the
            instance's reference output.
        key: The columns among them that tell rows of one prompt apart.
        arrange: The rows of a task as measures are given them. None: as a
            `engine.variance.pair_grid.PairGrid`.
        has_originals: Whether each instance must have its original prompt.
        optional: Further columns, which may be missing or null.
    """

    name: str
    values: dict[str, type]
    draw: Callable[[random.Random, int], list[dict[str, Any]]]
    key: tuple[str, ...] = ()
    arrange: Callable[[Iterable[Mapping[str, Any]]], Any] | None = None
    has_originals: bool = True
    optional: dict[str, type] = field(default_factory=dict)

    @property
    def columns(self) -> dict[str, type]:
        """All columns that measures go by."""
        return PLACE | self.values


def _draw_pair(draw: random.Random, n_tokens: int) -> list[dict[str, Any]]:
    logprob = -draw.expovariate(1.0) * n_tokens
    probability = math.exp(logprob / n_tokens)
    values = {"n_tokens": n_tokens, "logprob": logprob, "probability": probability}
    return [values | {"is_greedy": draw.random() < probability}]


PAIRS = Input(
    "pairs",
    {"n_tokens": int, "logprob": float, "probability": float},
    _draw_pair,
    optional={"is_greedy": bool},
)
"""The stored pairs, `pairs.parquet`, whose reference outputs are the model's own."""

GOLD_PAIRS = replace(PAIRS, name="gold_pairs")
"""The same, where the reference outputs are the gold outputs."""

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
        needs: The table it is computed from, the name of an `Input`.
        uncertain: The end at which the model wavers: `high` or `low` values.
        lowest: The least value it can take.
        highest: The greatest value it can take; infinity if there is none.
        compute: The number of one task, none where it has nothing to be measured by. It is given
            what `Input.arrange` makes of the task's rows, whose order must not matter.
        may_lack: Whether a task that has perturbed prompts may have none: it is computed from
            `Input.optional`, or needs several prompts or samples.
    """

    name: str
    title: str
    formula: str
    source: str
    needs: str
    uncertain: Literal["high", "low"]
    lowest: float
    highest: float
    compute: Callable[[Any], float | None]
    may_lack: bool = False


def mean(values: Sequence[float] | NDArray[np.float64]) -> float | None:
    """The mean, over instances for example; none of nothing."""
    return float(np.sum(values)) / len(values) if len(values) else None
