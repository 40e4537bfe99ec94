"""How much sampled outputs of one task differ."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from engine.measures.measure import Outputs
from engine.perturb.boundaries import words
from engine.variance.analysis import Moves

_WORD = re.compile(r"[^\W_]+")


def disagreement_table(samples: Outputs) -> Moves:
    """Share of samples that differ from the most frequent one under j = 0; shape (n, k), [0, 1].

    Disagreement by vote (Seung et al., 1992), perturbed prompts as the committee; white space
    around outputs aside. Without samples under j >= 1 its shape is (n, 0).

    Raises:
        ValueError: If an instance lacks the samples of a prompt that another one has.
    """
    numbers = sorted({j for prompts in samples.values() for j in prompts} - {0})
    if any(prompts.keys() != {0, *numbers} for prompts in samples.values()):
        raise ValueError("every instance needs samples under j = 0 and the same j >= 1")
    rows = [[share_that_differs(row[j], row[0]) for j in numbers] for row in stripped(samples)]
    return np.array(rows).reshape(len(samples), len(numbers))


def stripped(samples: Outputs) -> list[dict[int, list[str]]]:
    """Of each instance the outputs by perturbation, white space around them left out."""
    return [
        {j: [output.strip() for output in outputs] for j, outputs in prompts.items()}
        for prompts in samples.values()
    ]


def share_that_differs(outputs: Sequence[str], originals: Sequence[str]) -> float:
    """Share of outputs that differ from the most frequent of others, in [0, 1]."""
    majority = most_frequent(originals)
    return sum(output != majority for output in outputs) / len(outputs)


def most_frequent(outputs: Sequence[str]) -> str:
    """The most frequent output; of equally frequent ones the first in the order of the alphabet."""
    counts = Counter(outputs)
    return min(counts, key=lambda output: (-counts[output], output))


def mean_rouge_distance(outputs: Sequence[str], others: Sequence[str]) -> float:
    """Mean of `rouge_distance` over all pairs of an output and another, in [0, 1]."""
    counts = [Counter(output.strip() for output in each) for each in (outputs, others)]
    weighted = (
        rouge_distance(one, other) * times * other_times
        for one, times in sorted(counts[0].items())
        for other, other_times in sorted(counts[1].items())
    )
    return math.fsum(weighted) / (len(outputs) * len(others))


def rouge_distance(output: str, other: str) -> float:
    """1 - ROUGE-L between two outputs, in [0, 1]; symmetric, and 0 for equal ones.

    The F-measure of Lin (2004), "ROUGE: A Package for Automatic Evaluation of Summaries", over
    words: runs of letters and digits, letter case aside; in scripts without blanks those of
    `engine.perturb.boundaries`. On ASCII that is what the
    `rouge-score` package computes without its stemmer.
    """
    if output == other:
        return 0.0
    a, b = _words(output), _words(other)
    return 1 - 2 * _common_subsequence(a, b) / (len(a) + len(b)) if a and b else 1.0


def _words(text: str) -> list[str]:
    return [each for run in words(text.casefold(), ()) for each in _WORD.findall(run.text)]


def _common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence, a row of the table in one integer.

    Hyyro (2004), "Bit-parallel LCS-length computation revisited".
    """
    places: dict[str, int] = {}
    for position, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << position
    everything = (1 << len(a)) - 1
    row = everything
    for word in b:
        matched = row & places.get(word, 0)
        row = ((row + matched) | (row - matched)) & everything
    return len(a) - row.bit_count()


def label_entropy(samples: Iterable[Mapping[str, Any]]) -> float | None:
    """Mean over instances of the entropy, in nats, of `label` over all rows under j >= 1.

    Rows without a label have one label more in common. None without rows under j >= 1.
    """
    counts: dict[str, Counter[str | None]] = {}
    for row in samples:
        if row["perturbation"] > 0:
            counts.setdefault(row["instance_id"], Counter())[row["label"]] += 1
    entropies = [_entropy(count) for count in counts.values()]
    return math.fsum(entropies) / len(entropies) if entropies else None


def _entropy(counts: Counter[str | None]) -> float:
    """-sum q ln q of the frequencies, in nats."""
    total = counts.total()
    return max(0.0, -math.fsum(n / total * math.log(n / total) for n in counts.values()))
