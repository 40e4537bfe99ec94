"""Ranking estimates of a scored pool, from the table of its pairs."""

from __future__ import annotations

import numpy as np
import polars as pl

from engine.design.assisted import Evidence, estimate
from engine.design.components import MeanSquares
from engine.design.measurement import Measurement


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
        ValueError: If an instance lacks its original or a perturbed pair that another one has.
    """
    runs = pairs["task_id"].rle().struct.unnest()
    numbers, lengths, probabilities = (
        pairs[name].to_numpy() for name in ("perturbation", "n_tokens", "probability")
    )
    tables, covariates = [], []
    start = 0
    for size in runs["len"].to_list():
        rows = slice(start, start + size)
        columns = int(numbers[rows].max()) + 1
        if size % columns or (numbers[rows].reshape(-1, columns) != np.arange(columns)).any():
            raise ValueError("every instance needs its original and the same perturbed pairs")
        p = probabilities[rows].reshape(-1, columns)
        measured = Measurement.of_likelihoods(
            np.abs(p[:, 1:] - p[:, :1]), p[:, 0], lengths[rows][::columns].tolist()
        )
        tables.append(MeanSquares.of(measured.moves))
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
