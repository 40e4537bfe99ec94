"""Measures from sampled outputs. Outputs are equal if they are after stripping white space."""

from __future__ import annotations

import math

import polars as pl

from engine.measures.disagreement import mean_rouge_distance
from engine.measures.label_measures import mixture_entropy, mutual_information
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


def _rouge_distance(samples: pl.LazyFrame) -> pl.LazyFrame:
    prompts = samples.group_by(_PROMPT, maintain_order=True).agg(pl.col("output"))
    originals = prompts.filter(pl.col("perturbation") == 0).select(
        *_INSTANCE, pl.col("output").alias("original")
    )
    distance = pl.struct("output", "original").map_elements(
        lambda row: mean_rouge_distance(row["output"], row["original"]), return_dtype=pl.Float64
    )
    per_prompt = (
        prompts.filter(pl.col("perturbation") > 0)
        .join(originals, on=_INSTANCE, how="left", maintain_order="left")
        .with_columns(distance.alias("value"))
    )
    return mean_over_instances(
        per_prompt.group_by(_INSTANCE, maintain_order=True).agg(pl.col("value").mean())
    )


def _frequencies(samples: pl.LazyFrame) -> pl.LazyFrame:
    """Of every perturbed prompt its different outputs, `q` the share of the samples each has."""
    perturbed = _stripped(samples).filter(pl.col("perturbation") > 0)
    counts = perturbed.group_by(*_PROMPT, "output", maintain_order=True).len("count")
    return counts.with_columns(q=pl.col("count") / pl.col("count").sum().over(_PROMPT))


def _entropy(samples: pl.LazyFrame) -> pl.LazyFrame:
    return mean_over_instances(mixture_entropy(_frequencies(samples), "output"))


def _bald(samples: pl.LazyFrame) -> pl.LazyFrame:
    return mean_over_instances(mutual_information(_frequencies(samples), "output"))


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
        name="output_rouge_distance",
        title="ROUGE-L distance of outputs",
        formula="mean over i, j >= 1, samples under j and samples under j = 0 of 1 - ROUGE-L "
        "(F-measure over words)",
        source="Lin (2004), ROUGE: A Package for Automatic Evaluation of Summaries",
        needs="samples",
        uncertain="high",
        lowest=0,
        highest=1,
        compute=_rouge_distance,
    ),
    Measure(
        name="sample_entropy",
        title="predictive entropy of the output",
        formula="mean over i of H(mean over j >= 1 of f(i, j)), f the frequencies of outputs among "
        "the samples; plugged in, so too low for few samples",
        source="Shannon entropy of the ensemble's mean, the first term of sample_bald",
        needs="samples",
        uncertain="high",
        lowest=0,
        highest=math.inf,
        compute=_entropy,
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
