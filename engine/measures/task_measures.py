"""The paper's measures of one task, from its scored pairs, as the server computes them.

In plain Python, so that the server needs no data frames; `engine.measures.likelihood` computes the
same, and more, for whole pools.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from engine.protocol.api import PairScore


def prompt_uncertainty(pairs: Sequence[PairScore]) -> float | None:
    """U: mean of |p(i, j) - p(i, 0)| over instances i and perturbations j >= 1, in [0, 1].

    Kung et al. (2023), equation 1, with the length-normalised likelihood of the authors' code.
    A perturbed prompt that equals its original counts as a move of zero, for it is a fair draw, as
    long as another prompt of the task differs; where none does, nothing was measured.

    Returns:
        U; none without perturbed pairs, which `engine.questions.pair_plan.plan_pairs` makes none of
        where no perturbed prompt differs from its original.

    Raises:
        ValueError: If an instance lacks its original pair.
    """
    original = _originals(pairs)
    moves = [
        abs(pair.probability - original[pair.instance_id].probability)
        for pair in pairs
        if pair.perturbation > 0
    ]
    return math.fsum(moves) / len(moves) if moves else None


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
