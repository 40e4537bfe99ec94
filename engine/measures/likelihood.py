"""Measures from scored pairs: how likely the reference output is, and how far that moves.

p(i, j) is `probability`, the geometric mean per token. Instances and perturbations count the same,
so the mean over all pairs of a task is the mean over instances of the mean over perturbations
wherever every instance has the same perturbations. Numpy is all they need: the server computes
what it answers by the same functions.
"""

from __future__ import annotations

import math

import numpy as np

from engine.measures.measure import Measure, mean
from engine.variance.pair_grid import PairGrid

_KUNG = "Kung et al. (2023), arXiv 2311.00288"


def prompt_uncertainty(grid: PairGrid) -> float | None:
    """U: mean of |p(i, j) - p(i, 0)| over instances i and perturbations j >= 1, in [0, 1].

    Kung et al. (2023), equation 1, with the length-normalised likelihood of the authors' code.
    A perturbed prompt that equals its original counts as a move of zero, for it is a fair draw, as
    long as another prompt of the task differs; where none does, nothing was measured, and
    `engine.questions.pair_plan.plan_pairs` makes no perturbed pair.
    """
    return mean(grid.moves[grid.scored[:, 1:]])


def prediction_probability(grid: PairGrid) -> float:
    """P: mean of p(i, 0) over instances i, in [0, 1]."""
    return float(grid.originals.mean())


def flip_rate(grid: PairGrid) -> float | None:
    """Share of perturbed pairs under which the reference is not the model's greedy answer.

    The reference was decoded greedily under j = 0; under another prompt it is the greedy answer if
    and only if each of its tokens is a most likely one there. One cut at its greatest length counts
    by the tokens it has. None where the engine did not tell, and where an output is not the greedy
    answer under j = 0 either, as gold outputs mostly are not.
    """
    if (grid.greedy[:, 0] == 0).any():
        return None
    greedy = grid.greedy[:, 1:][grid.scored[:, 1:]]
    return None if np.isnan(greedy).any() else mean(1 - greedy)


def perplexity(grid: PairGrid) -> float:
    """exp(-mean over instances of logprob / n_tokens) under the original prompt, >= 1."""
    with np.errstate(over="ignore"):  # beyond e to the 709 it is infinite
        return float(np.exp(-(grid.logprobs[:, 0] / grid.n_tokens[:, 0]).mean()))


def _signed(grid: PairGrid) -> float | None:
    return mean(grid.changes[grid.scored[:, 1:]])


def _relative(grid: PairGrid) -> float | None:
    # From the logarithms: the probabilities themselves may both be too small to divide.
    per_token = grid.logprobs / grid.n_tokens
    with np.errstate(over="ignore"):
        ratio = np.exp(per_token[:, 1:] - per_token[:, :1])
    return mean(np.abs(ratio - 1)[grid.scored[:, 1:]])


def _largest(grid: PairGrid) -> float | None:
    scored = grid.scored[:, 1:]
    moved = scored.any(axis=1)
    return mean(np.max(grid.moves[moved], axis=1, where=scored[moved], initial=0.0))


def _deviation(grid: PairGrid) -> float | None:
    # One prompt alone says nothing of the spread.
    several = grid.scored[:, 1:].any(axis=1)
    scored, p = grid.scored[several], grid.probabilities[several]
    count = scored.sum(axis=1)
    mean_of_row = np.where(scored, p, 0.0).sum(axis=1) / count
    away = np.where(scored, p - mean_of_row[:, None], 0.0)
    return mean(np.sqrt((away**2).sum(axis=1) / count))


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
        compute=prompt_uncertainty,
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
        name="flip_rate",
        title="flip rate: how often another wording gets another greedy answer",
        formula="share of (i, j >= 1) in which a token of the output is not a most likely one",
        source="greedy answers compared; Kung et al. compare likelihoods",
        needs="pairs",
        uncertain="high",
        lowest=0,
        highest=1,
        compute=flip_rate,
        may_lack=True,
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
        compute=prediction_probability,
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
        compute=perplexity,
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
        compute=prompt_uncertainty,
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
        compute=prediction_probability,
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
        compute=perplexity,
    ),
)
"""All measures from scored pairs."""
