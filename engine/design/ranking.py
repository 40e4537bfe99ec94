"""Ranking estimates of a scored pool, from the table of its pairs."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.design.analysis import Analysis, Moves
from engine.design.assisted import Evidence, estimate
from engine.design.measurement import Measurement

Floats = NDArray[np.float64]


def ranking_columns(pairs: pl.DataFrame) -> pl.DataFrame:
    """What each task's prompt uncertainty is guessed to be, with the help of the other tasks.

    See `engine.design.assisted`; the value guessed is that over all instances and perturbations
    there could be. What a prompt's change in length would tell is not used, since a table of pairs
    does not hold it.

    Args:
        pairs: Likelihood pairs: `task_id`, `perturbation`, `n_tokens` and `probability`, those of a
            task together, by instance and perturbation; at least one.

    Returns:
        `task_id`, `ranking_estimate` and its standard error `ranking_error`, one row per task.

    Raises:
        ValueError: If a task does not begin with an original, or has no perturbed pair.
    """
    runs = pairs["task_id"].rle().struct.unnest()
    numbers, lengths, probabilities = (
        pairs[name].to_numpy() for name in ("perturbation", "n_tokens", "probability")
    )
    tables, covariates = [], []
    start = 0
    for size in runs["len"].to_list():
        rows = slice(start, start + size)
        originals, moves = _moves(numbers[rows], probabilities[rows])
        of_originals = lengths[rows][numbers[rows] == 0].tolist()
        measured = Measurement.of_likelihoods(moves, originals, of_originals)
        tables.append(Analysis.of(measured.moves))
        covariates.append(measured.covariates)
        start += size
    found = estimate(Evidence.of(tables, covariates))
    return pl.DataFrame(
        {
            "task_id": runs["value"],
            "ranking_estimate": np.minimum(found.value, 1.0),
            "ranking_error": found.error,
        }
    )


def _moves(numbers: NDArray[np.int64], probabilities: Floats) -> tuple[Floats, Moves]:
    """Of one task p(i, 0), shape (n,), and its moves, shape (n, k)."""
    perturbed = numbers > 0
    # Each instance begins with its original.
    instance = np.cumsum(~perturbed) - 1
    if perturbed[0] or not perturbed.any():
        raise ValueError("every instance needs its original, and some a perturbed pair")
    originals = probabilities[~perturbed]
    different, column = np.unique(numbers[perturbed], return_inverse=True)
    moves = np.full((len(originals), len(different)), np.nan)
    rows = instance[perturbed]
    moves[rows, column] = np.abs(probabilities[perturbed] - originals[rows])
    return originals, moves
