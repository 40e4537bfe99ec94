"""Ranking estimates of a scored pool, from the table of its pairs."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.design.analysis import Analysis
from engine.design.assisted import Evidence, estimate
from engine.design.measurement import Measurement

Floats = NDArray[np.float64]


def ranking_columns(pairs: pl.DataFrame) -> pl.DataFrame:
    """What each task's prompt uncertainty is guessed to be, with the help of the other tasks.

    See `engine.design.assisted`; the value guessed is that over all instances and perturbations
    there could be.

    Args:
        pairs: Likelihood pairs: `task_id`, `perturbation`, `n_prompt_tokens`, `n_tokens` and
            `probability`, those of a task together, by instance and perturbation; at least one.

    Returns:
        `task_id`, `ranking_estimate` and its standard error `ranking_error`, one row per task.

    Raises:
        ValueError: If a task does not begin with an original, or has no perturbed pair.
    """
    runs = pairs["task_id"].rle().struct.unnest()
    numbers, prompts, outputs, probabilities = (
        pairs[name].to_numpy()
        for name in ("perturbation", "n_prompt_tokens", "n_tokens", "probability")
    )
    tables, covariates = [], []
    start = 0
    for size in runs["len"].to_list():
        rows = slice(start, start + size)
        task = _Rows(numbers[rows])
        measured = Measurement.of_likelihoods(
            np.abs(task.changes(probabilities[rows])),
            probabilities[rows][task.originals],
            outputs[rows][task.originals].tolist(),
        )
        lengths = prompts[rows].astype(float)
        shares = np.abs(task.changes(lengths)) / lengths[task.originals][:, None]
        tables.append(Analysis.of(measured.moves))
        covariates.append((float(np.nanmean(shares)), *measured.covariates))
        start += size
    found = estimate(Evidence.of(tables, covariates))
    return pl.DataFrame(
        {
            "task_id": runs["value"],
            "ranking_estimate": np.minimum(found.value, 1.0),
            "ranking_error": found.error,
        }
    )


class _Rows:
    """Where the pairs of one task lie in its table; `numbers` are their perturbations."""

    def __init__(self, numbers: NDArray[np.int64]) -> None:
        self._perturbed = numbers > 0
        if self._perturbed[0] or not self._perturbed.any():
            raise ValueError("every instance needs its original, and some a perturbed pair")
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
