"""Measures from the probabilities of a classification's labels.

The perturbed prompts, j >= 1, are taken as members of an ensemble: q(i, j, l) is the probability of
label l after the j-th prompt of instance i, scaled so that the labels of a prompt sum to 1.
Entropies are in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from engine.measures.measure import Input, LabelProbabilities, Measure, mean

Distribution = Mapping[str, float]
"""The probability of each outcome; one that is not there has probability 0."""


def entropy(q: Iterable[float]) -> float:
    """-sum q ln q of a distribution, in nats; 0 ln 0 is 0."""
    # What rounding leaves below 0 is 0; nan stays nan.
    return max(-math.fsum(each * math.log(each) for each in q if not each <= 0), 0.0)


def mixture_entropy(prompts: Sequence[Distribution]) -> float:
    """H(mean over prompts of q), in nats; at least one prompt."""
    mixed: dict[str, float] = {}
    for q in prompts:
        for outcome, probability in q.items():
            mixed[outcome] = mixed.get(outcome, 0.0) + probability / len(prompts)
    return entropy(mixed.values())


def mutual_information(prompts: Sequence[Distribution]) -> float:
    """H(mean over prompts of q) - mean over prompts of H(q), in nats; at least one prompt."""
    within = math.fsum(entropy(q.values()) for q in prompts) / len(prompts)
    return max(mixture_entropy(prompts) - within, 0.0)


def _mean_over_instances(
    labels: LabelProbabilities,
    of_instance: Callable[[Sequence[Distribution]], float],
    fewest: int = 1,
) -> float | None:
    """Instances with fewer prompts than `fewest` are left out."""
    instances = ([_scaled(q) for j, q in prompts.items() if j > 0] for prompts in labels.values())
    return mean([of_instance(prompts) for prompts in instances if len(prompts) >= fewest])


def _scaled(q: Distribution) -> Distribution:
    """The distribution, made to sum to 1; nan where all of it is 0."""
    total = math.fsum(q.values()) or math.nan
    return {label: probability / total for label, probability in q.items()}


def _bald(labels: LabelProbabilities) -> float | None:
    # One prompt has nothing to be compared with.
    return _mean_over_instances(labels, mutual_information, fewest=2)


def _entropy(labels: LabelProbabilities) -> float | None:
    return _mean_over_instances(labels, mixture_entropy)


def _by_label(rows: Iterable[Mapping[str, Any]]) -> LabelProbabilities:
    table: dict[str, dict[int, dict[str, float]]] = {}
    for row in rows:
        prompts = table.setdefault(row["instance_id"], {})
        prompts.setdefault(row["perturbation"], {})[row["label"]] = row["probability"]
    return table


LABEL_PROBABILITIES = Input(
    "label_probabilities",
    {"label": str, "probability": float},
    lambda draw, _: [{"label": each, "probability": draw.random()} for each in ("no", "yes", "x")],
    key=("label",),
    arrange=_by_label,
    has_originals=False,
)
"""How likely each admissible label of a classification is; a row per label."""

LABEL_MEASURES = (
    Measure(
        name="label_bald",
        title="mutual information of label and prompt (BALD)",
        formula="mean over i of H(mean over j >= 1 of q(i, j)) - mean over j >= 1 of H(q(i, j)); "
        "plugged in, so too low for few j; none of a single j",
        source="Houlsby et al. (2011), arXiv 1112.5745, perturbed prompts as the ensemble",
        needs="label_probabilities",
        uncertain="high",
        lowest=0,
        highest=math.inf,
        compute=_bald,
        may_lack=True,
    ),
    Measure(
        name="label_entropy",
        title="predictive entropy of the label",
        formula="mean over i of H(mean over j >= 1 of q(i, j)); plugged in, so too low for few j",
        source="Shannon entropy of the ensemble's mean, the first term of label_bald",
        needs="label_probabilities",
        uncertain="high",
        lowest=0,
        highest=math.inf,
        compute=_entropy,
    ),
)
"""All measures from probabilities of labels."""
