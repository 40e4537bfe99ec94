"""What the table of a scored pool's pairs says: ranking estimates, and variance components."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.design.assisted import Evidence, estimate
from engine.design.measurement import Expectation, Measurement, shift
from engine.errors import InputError
from engine.measures.compute import check_table
from engine.variance.analysis import Analysis
from engine.variance.components import Components
from engine.variance.pooling import Pooled

Floats = NDArray[np.float64]


def ranking_columns(
    pairs: pl.DataFrame, strengths: Mapping[str, float | None] | None = None
) -> pl.DataFrame:
    """What each task's prompt uncertainty is guessed to be, with the help of the other tasks.

    See `engine.design.assisted`; the value guessed is that over all instances and perturbations
    there could be.

    Args:
        pairs: Likelihood pairs: `task_id`, `perturbation`, `n_prompt_tokens`, `n_tokens` and
            `probability`, those of a task together, by instance and perturbation.
        strengths: `engine.design.measurement.perturbation_strength` of each task; where it is not
            known, a design is taken to be as strong as a whole one.

    Returns:
        `task_id`, `ranking_estimate` and its standard error `ranking_error`, one row per task that
        has a perturbed pair.

    Raises:
        ValueError: If a task does not begin with an original.
    """
    prompts, outputs, probabilities = (
        pairs[name].to_numpy() for name in ("n_prompt_tokens", "n_tokens", "probability")
    )
    names, tables, expected = [], [], []
    for name, rows, task in _tasks(pairs):
        measured = Measurement.of_likelihoods(
            np.abs(task.changes(probabilities[rows])),
            probabilities[rows][task.originals],
            outputs[rows][task.originals].tolist(),
        )
        lengths = prompts[rows].astype(float)
        original = float(lengths[task.originals].mean())
        changes = np.nanmean(np.abs(task.changes(lengths)), axis=0)
        shifts = [shift(original + change, original) for change in changes.tolist()]
        tables.append(Analysis.of(measured.moves))
        expected.append(Expectation.of(measured, shifts, (strengths or {}).get(name)))
        names.append(name)
    schema = {"task_id": pl.String, "ranking_estimate": pl.Float64, "ranking_error": pl.Float64}
    if not names:
        return pl.DataFrame(schema=schema)
    found = estimate(Evidence.of(tables, expected))
    return pl.DataFrame([names, np.minimum(found.value, 1.0), found.error], schema)


def components_of_pairs(pairs: pl.DataFrame, source: object | None = None) -> Components:
    """The variance components of a scored pool, relative to the squared prompt uncertainty.

    Args:
        pairs: Likelihood pairs as measures take them (`engine.measures.measure.INPUTS`), in any
            order; at least one.
        source: The file they came from, for messages.

    Raises:
        InputError: If the table is not one of pairs, see `engine.measures.compute.check_table`, or
            has no perturbed one.
    """
    check_table(pairs, "pairs", source)
    ordered = pairs.sort("task_id", "instance_id", "perturbation")
    probabilities = ordered["probability"].to_numpy()
    tables = [
        Analysis.of(np.abs(task.changes(probabilities[rows]))) for _, rows, task in _tasks(ordered)
    ]
    if not tables:
        raise InputError("holds no perturbed pair", file=source)
    return Pooled.of(tables).relative


def _tasks(pairs: pl.DataFrame) -> Iterator[tuple[str, slice, _Rows]]:
    """Each task with a perturbed pair, where its pairs lie in the table, and where in its own."""
    runs = pairs["task_id"].rle().struct.unnest()
    numbers = pairs["perturbation"].to_numpy()
    start = 0
    for name, size in zip(runs["value"], runs["len"], strict=True):
        rows = slice(start, start + size)
        if numbers[rows].any():
            yield name, rows, _Rows(numbers[rows])
        start += size


class _Rows:
    """Where the pairs of one task lie in its table; `numbers` are their perturbations."""

    def __init__(self, numbers: NDArray[np.int64]) -> None:
        self._perturbed = numbers > 0
        if self._perturbed[0]:
            raise ValueError("every instance needs its original")
        self.originals = np.flatnonzero(~self._perturbed)
        # Each instance begins with its original.
        self._instance = (np.cumsum(~self._perturbed) - 1)[self._perturbed]
        different, self._column = np.unique(numbers[self._perturbed], return_inverse=True)
        self._shape = len(self.originals), len(different)

    def changes(self, values: Floats) -> Floats:
        """By what each perturbed pair's value differs from its original's; nan where is none."""
        table = np.full(self._shape, np.nan)
        away = values[self._perturbed] - values[self.originals][self._instance]
        table[self._instance, self._column] = away
        return table
