"""Measures from sampled outputs. Outputs are equal if they are after stripping white space."""

from __future__ import annotations

import math

import polars as pl

from engine.measures.labels import mutual_information
from engine.measures.measure import Measure, mean_over_instances

_INSTANCE = ("task_id", "instance_id")
_PROMPT = (*_INSTANCE, "perturbation")


def _stripped(samples: pl.LazyFrame) -> pl.LazyFrame:
    return samples.with_columns(pl.col("output").str.strip_chars())


def _majority(samples: pl.LazyFrame) -> pl.LazyFrame:
    """Most frequent output under the original prompt, `majority`, and its share of the samples.

    Of equally frequent outputs it is the first in the order of the alphabet.
    """
    counts = (
        samples.filter(pl.col("perturbation") == 0)
        .group_by(*_INSTANCE, "output", maintain_order=True)
        .len("count")
    )
    ordered = counts.sort("count", "output", descending=[True, False])
    return ordered.group_by(_INSTANCE, maintain_order=True).agg(
        pl.col("output").first().alias("majority"),
        (pl.col("count").first() / pl.col("count").sum()).alias("share"),
    )


def _consistency(samples: pl.LazyFrame) -> pl.LazyFrame:
    majority = _majority(_stripped(samples))
    return mean_over_instances(majority.with_columns(pl.col("share").alias("value")))


def _disagreement(samples: pl.LazyFrame) -> pl.LazyFrame:
    stripped = _stripped(samples)
    perturbed = stripped.filter(pl.col("perturbation") > 0).join(
        _majority(stripped), on=_INSTANCE, how="left", maintain_order="left"
    )
    differs = (pl.col("output") != pl.col("majority")).cast(pl.Float64)
    # First within a prompt, so that a prompt with more samples does not count for more.
    per_prompt = perturbed.group_by(_PROMPT, maintain_order=True).agg(differs.mean().alias("value"))
    return mean_over_instances(
        per_prompt.group_by(_INSTANCE, maintain_order=True).agg(pl.col("value").mean())
    )


def _bald(samples: pl.LazyFrame) -> pl.LazyFrame:
    perturbed = _stripped(samples).filter(pl.col("perturbation") > 0)
    counts = perturbed.group_by(*_PROMPT, "output", maintain_order=True).len("count")
    shares = counts.with_columns(q=pl.col("count") / pl.col("count").sum().over(_PROMPT))
    return mean_over_instances(mutual_information(shares, "output"))


OUTPUT_MEASURES = (
    Measure(
        name="self_consistency",
        title="self-consistency",
        formula="mean over i of the share of samples under j = 0 that equal the most frequent one",
        source="Wang et al. (2023), arXiv 2203.11171, the votes of the majority",
        needs="samples",
        uncertain="low",
        lowest=0,
        highest=1,
        compute=_consistency,
    ),
    Measure(
        name="output_disagreement",
        title="output disagreement",
        formula="mean over i, j >= 1 of the share of samples under j that differ from the most "
        "frequent one under j = 0",
        source="disagreement by vote (Seung et al., 1992), perturbed prompts as the committee",
        needs="samples",
        uncertain="high",
        lowest=0,
        highest=1,
        compute=_disagreement,
    ),
    Measure(
        name="sample_bald",
        title="mutual information of output and prompt (BALD)",
        formula="mean over i of H(mean over j >= 1 of f(i, j)) - mean over j >= 1 of H(f(i, j)), "
        "f the frequencies of outputs among the samples; plugged in, so too high for few samples",
        source="Houlsby et al. (2011), arXiv 1112.5745, perturbed prompts as the ensemble",
        needs="samples",
        uncertain="high",
        lowest=0,
        highest=math.inf,
        compute=_bald,
    ),
)
"""All measures from sampled outputs."""
