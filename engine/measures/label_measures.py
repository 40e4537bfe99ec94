"""Measures from the probabilities of a classification's labels.

The perturbed prompts, j >= 1, are taken as members of an ensemble: q(i, j, l) is the probability of
label l after the j-th prompt of instance i, scaled so that the labels of a prompt sum to 1.
Entropies are in nats.
"""

from __future__ import annotations

import math

import polars as pl

from engine.measures.measure import Measure, mean_over_instances

_Q = pl.col("q")
_INSTANCE = ("task_id", "instance_id")
_PROMPT = (*_INSTANCE, "perturbation")


def entropy(q: pl.Expr) -> pl.Expr:
    """-sum q ln q of a distribution, in nats; 0 ln 0 is 0."""
    # What rounding leaves below 0 is 0.
    return (-pl.when(q > 0).then(q * q.log()).otherwise(0.0).sum()).clip(lower_bound=0.0)


def mixture_entropy(prompts: pl.LazyFrame, outcome: str) -> pl.LazyFrame:
    """H(mean over prompts of q) of each instance, as `value`.

    Args:
        prompts: Columns `task_id`, `instance_id`, `perturbation`, the outcome, and its probability
            `q`; an outcome that a prompt does not list has probability 0 there.
        outcome: Name of the column that tells outcomes apart.
    """
    n_prompts = pl.col("perturbation").n_unique().over(_INSTANCE)
    mixed = (
        prompts.with_columns(q=_Q / n_prompts)
        .group_by(*_INSTANCE, outcome, maintain_order=True)
        .agg(_Q.sum())
    )
    return mixed.group_by(_INSTANCE, maintain_order=True).agg(entropy(_Q).alias("value"))


def mutual_information(prompts: pl.LazyFrame, outcome: str) -> pl.LazyFrame:
    """H(mean over prompts of q) - mean over prompts of H(q), of each instance, as `value`.

    Arguments as for `mixture_entropy`.
    """
    within = (
        prompts.group_by(_PROMPT, maintain_order=True)
        .agg(entropy(_Q).alias("entropy"))
        .group_by(_INSTANCE, maintain_order=True)
        .agg(pl.col("entropy").mean())
    )
    joined = mixture_entropy(prompts, outcome).join(
        within, on=_INSTANCE, how="left", maintain_order="left"
    )
    gain = (pl.col("value") - pl.col("entropy")).clip(lower_bound=0.0)
    return joined.with_columns(gain.alias("value")).select(*_INSTANCE, "value")


def _perturbed(labels: pl.LazyFrame) -> pl.LazyFrame:
    total = pl.col("probability").sum().over(_PROMPT)
    perturbed = labels.filter(pl.col("perturbation") > 0)
    return perturbed.with_columns(q=pl.col("probability") / total)


def _bald(labels: pl.LazyFrame) -> pl.LazyFrame:
    return mean_over_instances(mutual_information(_perturbed(labels), "label"))


def _entropy(labels: pl.LazyFrame) -> pl.LazyFrame:
    return mean_over_instances(mixture_entropy(_perturbed(labels), "label"))


LABEL_MEASURES = (
    Measure(
        name="label_bald",
        title="mutual information of label and prompt (BALD)",
        formula="mean over i of H(mean over j >= 1 of q(i, j)) - mean over j >= 1 of H(q(i, j))",
        source="Houlsby et al. (2011), arXiv 1112.5745, perturbed prompts as the ensemble",
        needs="label_probabilities",
        uncertain="high",
        lowest=0,
        highest=math.inf,
        compute=_bald,
    ),
    Measure(
        name="label_entropy",
        title="predictive entropy of the label",
        formula="mean over i of H(mean over j >= 1 of q(i, j))",
        source="Shannon entropy of the ensemble's mean, the first term of label_bald",
        needs="label_probabilities",
        uncertain="high",
        lowest=0,
        highest=math.inf,
        compute=_entropy,
    ),
)
"""All measures from probabilities of labels."""
