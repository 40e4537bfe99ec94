"""Measures from scored pairs: how likely the reference output is, and how far that moves.

p(i, j) is `probability`, the geometric mean per token. Instances and perturbations count the same,
so the mean over all pairs of a task is the mean over instances of the mean over perturbations
wherever every instance has the same perturbations.
"""

from __future__ import annotations

import math

import polars as pl

from engine.measures.measure import Measure, mean_over_instances

_KUNG = "Kung et al. (2023), arXiv 2311.00288"
_P = pl.col("probability")
_ORIGINAL = pl.col("perturbation") == 0
_BY_INSTANCE = ("task_id", "instance_id")


def _perturbed(pairs: pl.LazyFrame) -> pl.LazyFrame:
    """The pairs with j >= 1, with `move` = p(i, j) - p(i, 0) and `ratio` = p(i, j) / p(i, 0)."""
    per_token = pl.col("logprob") / pl.col("n_tokens")
    originals = pairs.filter(_ORIGINAL).select(
        *_BY_INSTANCE, _P.alias("original"), per_token.alias("original_logprob")
    )
    return (
        pairs.filter(~_ORIGINAL)
        .join(originals, on=_BY_INSTANCE, how="left", maintain_order="left")
        .with_columns(
            move=_P - pl.col("original"),
            # From the logarithms: the probabilities themselves may both be too small to divide.
            ratio=(per_token - pl.col("original_logprob")).exp(),
        )
    )


def _mean_by_task(pairs: pl.LazyFrame, value: pl.Expr) -> pl.LazyFrame:
    return pairs.group_by("task_id", maintain_order=True).agg(value.mean().alias("value"))


def _uncertainty(pairs: pl.LazyFrame) -> pl.LazyFrame:
    return _mean_by_task(_perturbed(pairs), pl.col("move").abs())


def _signed(pairs: pl.LazyFrame) -> pl.LazyFrame:
    return _mean_by_task(_perturbed(pairs), pl.col("move"))


def _relative(pairs: pl.LazyFrame) -> pl.LazyFrame:
    return _mean_by_task(_perturbed(pairs), (pl.col("ratio") - 1).abs())


def _largest(pairs: pl.LazyFrame) -> pl.LazyFrame:
    moves = _perturbed(pairs).group_by(_BY_INSTANCE, maintain_order=True)
    return mean_over_instances(moves.agg(pl.col("move").abs().max().alias("value")))


def _deviation(pairs: pl.LazyFrame) -> pl.LazyFrame:
    prompts = pairs.group_by(_BY_INSTANCE, maintain_order=True).agg(
        pl.len().alias("prompts"), _P.std(ddof=0).alias("value")
    )
    # One prompt alone says nothing of the spread.
    return mean_over_instances(prompts.filter(pl.col("prompts") > 1))


def _probability(pairs: pl.LazyFrame) -> pl.LazyFrame:
    return _mean_by_task(pairs.filter(_ORIGINAL), _P)


def _perplexity(pairs: pl.LazyFrame) -> pl.LazyFrame:
    mean = (pl.col("logprob") / pl.col("n_tokens")).mean()
    return (
        pairs.filter(_ORIGINAL)
        .group_by("task_id", maintain_order=True)
        .agg((-mean).exp().alias("value"))
    )


LIKELIHOOD_MEASURES = (
    Measure(
        name="prompt_uncertainty",
        title="prompt uncertainty",
        formula="U = mean over i, j >= 1 of |p(i, j) - p(i, 0)|",
        source=f"{_KUNG}, equation 1",
        needs="pairs",
        uncertain="high",
        lowest=0,
        highest=1,
        compute=_uncertainty,
    ),
    Measure(
        name="prompt_uncertainty_signed",
        title="signed prompt uncertainty",
        formula="mean over i, j >= 1 of p(i, j) - p(i, 0); below 0 where perturbing costs",
        source=f"{_KUNG}, equation 1 without the absolute value",
        needs="pairs",
        uncertain="low",
        lowest=-1,
        highest=1,
        compute=_signed,
    ),
    Measure(
        name="prompt_uncertainty_std",
        title="standard deviation over prompts",
        formula="mean over i of the population standard deviation of p(i, j) over j = 0..k",
        source=f"spread in the place of the mean difference of {_KUNG}",
        needs="pairs",
        uncertain="high",
        lowest=0,
        highest=0.5,
        compute=_deviation,
    ),
    Measure(
        name="prompt_uncertainty_max",
        title="largest move",
        formula="mean over i of max over j >= 1 of |p(i, j) - p(i, 0)|",
        source=f"worst case in the place of the mean of {_KUNG}",
        needs="pairs",
        uncertain="high",
        lowest=0,
        highest=1,
        compute=_largest,
    ),
    Measure(
        name="prompt_uncertainty_relative",
        title="relative prompt uncertainty",
        formula="mean over i, j >= 1 of |p(i, j) - p(i, 0)| / p(i, 0)",
        source=f"{_KUNG}, equation 1, each move in units of where it starts",
        needs="pairs",
        uncertain="high",
        lowest=0,
        highest=math.inf,
        compute=_relative,
    ),
    Measure(
        name="prediction_probability",
        title="prediction probability",
        formula="P = mean over i of p(i, 0)",
        source=f"{_KUNG}, section 5",
        needs="pairs",
        uncertain="low",
        lowest=0,
        highest=1,
        compute=_probability,
    ),
    Measure(
        name="perplexity",
        title="perplexity of the model's own output",
        formula="exp(-(mean over i of logprob(i, 0) / n_tokens(i)))",
        source=f"{_KUNG}, section 3.3, the baselines of high and low perplexity",
        needs="pairs",
        uncertain="high",
        lowest=1,
        highest=math.inf,
        compute=_perplexity,
    ),
    Measure(
        name="gold_prompt_uncertainty",
        title="prompt uncertainty of the gold output",
        formula="mean over i, j >= 1 of |p(i, j) - p(i, 0)|, p of the gold output",
        source=f"{_KUNG}, equation 1, on gold outputs",
        needs="gold_pairs",
        uncertain="high",
        lowest=0,
        highest=1,
        compute=_uncertainty,
    ),
    Measure(
        name="gold_probability",
        title="probability of the gold output",
        formula="mean over i of p(i, 0), p of the gold output",
        source="the confidence of Swayamdipta et al. (2020), arXiv 2009.10795, for one checkpoint",
        needs="gold_pairs",
        uncertain="low",
        lowest=0,
        highest=1,
        compute=_probability,
    ),
    Measure(
        name="gold_perplexity",
        title="perplexity of the gold output",
        formula="exp(-(mean over i of logprob(i, 0) / n_tokens(i))), of the gold output",
        source="exp of the fine-tuning loss, a mean over instances",
        needs="gold_pairs",
        uncertain="high",
        lowest=1,
        highest=math.inf,
        compute=_perplexity,
    ),
)
"""All measures from scored pairs."""
