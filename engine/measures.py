"""The measures of a task, from its scored pairs, and the categories of the task map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine.api import PairScore

if TYPE_CHECKING:
    import polars as pl


def prompt_uncertainty(pairs: Sequence[PairScore]) -> float:
    """U: mean of |p(i, j) - p(i, 0)| over instances i and perturbations j >= 1, in [0, 1].

    Kung et al. (2023), equation 1, with the length-normalised likelihood of the authors' code.

    Raises:
        ValueError: If there is no perturbed pair, or an instance lacks its original pair.
    """
    original = _originals(pairs)
    moves = [
        abs(pair.probability - original[pair.instance_id].probability)
        for pair in pairs
        if pair.perturbation > 0
    ]
    if not moves:
        raise ValueError("prompt uncertainty needs at least one perturbed pair")
    return math.fsum(moves) / len(moves)


def prediction_probability(pairs: Sequence[PairScore]) -> float:
    """P: mean of p(i, 0) over instances i, in [0, 1]."""
    original = _originals(pairs)
    return math.fsum(pair.probability for pair in original.values()) / len(original)


def perplexity(pairs: Sequence[PairScore]) -> float:
    """exp(-mean over instances of logprob / n_tokens) under the original prompt, >= 1."""
    original = _originals(pairs)
    mean = math.fsum(pair.logprob / pair.n_tokens for pair in original.values()) / len(original)
    return math.exp(-mean)


def _originals(pairs: Sequence[PairScore]) -> dict[str, PairScore]:
    original = {pair.instance_id: pair for pair in pairs if pair.perturbation == 0}
    missing = {pair.instance_id for pair in pairs} - original.keys()
    if missing or not original:
        raise ValueError(f"no original pair for instances {sorted(missing)}")
    return original


def map_categories(
    scores: pl.DataFrame,
    uncertainty_quantile: float = 0.5,
    probability_quantile: float = 0.5,
) -> pl.Series:
    """The task map's category of each row of `scores`.

    `ambiguous`: prompt uncertainty above its quantile; below it, `easy` with prediction probability
    at or above its quantile and `difficult` with less (Kung et al., 2023, section 5).

    Args:
        scores: Columns `prompt_uncertainty` and `prediction_probability`, one row per task.
        uncertainty_quantile: Where high prompt uncertainty begins, in [0, 1].
        probability_quantile: Where high prediction probability begins, in [0, 1].
    """
    import polars as pl

    u, p = pl.col("prompt_uncertainty"), pl.col("prediction_probability")
    return scores.select(
        pl.when(u > u.quantile(uncertainty_quantile, "linear"))
        .then(pl.lit("ambiguous"))
        .when(p >= p.quantile(probability_quantile, "linear"))
        .then(pl.lit("easy"))
        .otherwise(pl.lit("difficult"))
        .alias("map_category")
    ).to_series()
