"""How much of a gold output's likelihood is owed to the prompt that asks for it.

s(i | c) is the mean loss of a token of the gold output of instance i behind the context c: minus
its mean log-probability, in nats.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from engine.errors import InputError
from engine.measures.measure import Input, Measure, mean

Losses = Mapping[str, Mapping[str, float]]
"""s(i | c) by instance and context."""


def _losses(rows: Iterable[Mapping[str, Any]]) -> Losses:
    losses: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["perturbation"] == 0:
            instance = losses.setdefault(row["instance_id"], {})
            instance[row["given"]] = -row["logprob"] / row["n_tokens"]
    return losses


def _draw(draw: random.Random, n_tokens: int) -> list[dict[str, Any]]:
    return [
        {"given": given, "n_tokens": n_tokens, "logprob": -draw.expovariate(1.0) * n_tokens}
        for given in ("prompt", "input", "nothing")
    ]


GOLD_ANSWERS = Input(
    "gold_answers",
    {"given": str, "n_tokens": int, "logprob": float},
    _draw,
    key=("given",),
    arrange=_losses,
)
"""Gold outputs behind the original `prompt`, behind the instance's `input` alone and behind
`nothing`; a row per context."""


def _of_both(losses: Losses, of: str) -> Iterator[tuple[float, float]]:
    """s(i | prompt) and s(i | of) of each instance; `InputError` naming one that lacks either."""
    for instance, s in losses.items():
        for given in ("prompt", of):
            if given not in s:
                raise InputError(f"has no row of {given!r}", record=instance, field="given")
        yield s["prompt"], s[of]


def _ratio(of: str) -> Callable[[Losses], float | None]:
    return lambda losses: mean([own / other for own, other in _of_both(losses, of) if other > 0])


def _gain(of: str) -> Callable[[Losses], float | None]:
    return lambda losses: mean([other - own for own, other in _of_both(losses, of)])


_LI = "Li et al. (2024), arXiv 2308.12032, the ratio of conditioned and direct answer score"
_PMI = "pointwise mutual information of output and context (Church and Hanks, 1990), per token"


def _measure(
    name: str, title: str, formula: str, compute: Callable[[Losses], float | None], *, ratio: bool
) -> Measure:
    return Measure(
        name=name,
        title=title,
        formula=formula,
        source=_LI if ratio else _PMI,
        needs=GOLD_ANSWERS.name,
        uncertain="high" if ratio else "low",
        lowest=0 if ratio else -math.inf,
        highest=math.inf,
        compute=compute,
    )


DIFFICULTY_MEASURES = (
    _measure(
        "instruction_following_difficulty",
        "instruction-following difficulty (IFD)",
        "mean over i of s(i | prompt) / s(i | nothing); i with s(i | nothing) = 0 left out",
        _ratio("nothing"),
        ratio=True,
    ),
    _measure(
        "instruction_following_difficulty_given_input",
        "instruction-following difficulty beside the input alone",
        "mean over i of s(i | prompt) / s(i | input); i with s(i | input) = 0 left out",
        _ratio("input"),
        ratio=True,
    ),
    _measure(
        "prompt_information",
        "pointwise mutual information of prompt and gold output, nats per token",
        "mean over i of s(i | nothing) - s(i | prompt)",
        _gain("nothing"),
        ratio=False,
    ),
    _measure(
        "instruction_information",
        "the same, given the input: what the rest of the prompt tells",
        "mean over i of s(i | input) - s(i | prompt)",
        _gain("input"),
        ratio=False,
    ),
)
"""All measures of gold outputs with and without their prompts."""
