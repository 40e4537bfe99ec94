"""Measures from sampled outputs. Outputs are equal if they are after stripping white space."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from engine.measures.disagreement import (
    mean_rouge_distance,
    most_frequent,
    share_that_differs,
    stripped,
)
from engine.measures.label_measures import Distribution, mixture_entropy, mutual_information
from engine.measures.measure import Input, Measure, Outputs, mean


def _consistency(samples: Outputs) -> float | None:
    # A single vote always agrees with itself.
    votes = [prompts[0] for prompts in stripped(samples) if len(prompts[0]) > 1]
    return mean([outputs.count(most_frequent(outputs)) / len(outputs) for outputs in votes])


def _mean_against_original(
    samples: Outputs, of_prompt: Callable[[Sequence[str], Sequence[str]], float]
) -> float | None:
    """Within a prompt first, so that one with more samples does not count for more."""
    instances = [
        mean([of_prompt(outputs, prompts[0]) for j, outputs in prompts.items() if j > 0])
        for prompts in stripped(samples)
    ]
    return mean([each for each in instances if each is not None])


def _disagreement(samples: Outputs) -> float | None:
    return _mean_against_original(samples, share_that_differs)


def _rouge_distance(samples: Outputs) -> float | None:
    return _mean_against_original(samples, mean_rouge_distance)


def _mean_over_instances(
    samples: Outputs,
    of_instance: Callable[[Sequence[Distribution]], float],
    is_enough: Callable[[Sequence[Sequence[str]]], bool],
) -> float | None:
    """Instances whose outputs by prompt are not enough are left out."""
    instances = (
        [outputs for j, outputs in prompts.items() if j > 0] for prompts in stripped(samples)
    )
    return mean([of_instance([*map(_frequencies, each)]) for each in instances if is_enough(each)])


def _frequencies(outputs: Sequence[str]) -> Distribution:
    return {output: count / len(outputs) for output, count in Counter(outputs).items()}


def _entropy(samples: Outputs) -> float | None:
    return _mean_over_instances(samples, mixture_entropy, lambda each: sum(map(len, each)) > 1)


def _bald(samples: Outputs) -> float | None:
    return _mean_over_instances(samples, mutual_information, lambda each: len(each) > 1)


def _by_prompt(rows: Iterable[Mapping[str, Any]]) -> Outputs:
    outputs: dict[str, dict[int, list[str]]] = {}
    for row in rows:
        prompts = outputs.setdefault(row["instance_id"], {})
        prompts.setdefault(row["perturbation"], []).append(row["output"])
    return outputs


SAMPLES = Input(
    "samples",
    {"sample": int, "output": str},
    lambda draw, _: [{"sample": n, "output": draw.choice(("a", "b ", "b", "c"))} for n in range(5)],
    key=("sample",),
    arrange=_by_prompt,
)
"""Outputs drawn from the model; a row per draw, `sample` counts from 0."""

OUTPUT_MEASURES = (
    Measure(
        name="self_consistency",
        title="self-consistency",
        formula="mean over i of the share of samples under j = 0 that equal the most frequent one; "
        "none of a single sample",
        source="Wang et al. (2023), arXiv 2203.11171, the votes of the majority",
        needs="samples",
        uncertain="low",
        lowest=0,
        highest=1,
        compute=_consistency,
        may_lack=True,
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
        "the samples; plugged in, so too low for few samples; none of a single sample",
        source="Shannon entropy of the ensemble's mean, the first term of sample_bald",
        needs="samples",
        uncertain="high",
        lowest=0,
        highest=math.inf,
        compute=_entropy,
        may_lack=True,
    ),
    Measure(
        name="sample_bald",
        title="mutual information of output and prompt (BALD)",
        formula="mean over i of H(mean over j >= 1 of f(i, j)) - mean over j >= 1 of H(f(i, j)), "
        "f the frequencies of outputs among the samples; plugged in, so too high for few samples; "
        "none of a single j",
        source="Houlsby et al. (2011), arXiv 1112.5745, perturbed prompts as the ensemble",
        needs="samples",
        uncertain="high",
        lowest=0,
        highest=math.inf,
        compute=_bald,
        may_lack=True,
    ),
)
"""All measures from sampled outputs."""
