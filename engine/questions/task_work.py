"""What is asked about one task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.protocol.api import PairScore, Reference, Usage
from engine.questions.backend import PlannedSample, Scored
from engine.questions.pair_plan import Pair, TaskPlan
from engine.questions.question import Asked


@dataclass(frozen=True, slots=True)
class TaskWork:
    """A task whose references are known.

    Attributes:
        known: The scores that came with the references.
        pairs: What is scored for prompt uncertainty.
        again: Originals that are scored a second time.
        asked: What the question asks on top.
    """

    plan: TaskPlan
    group: int
    references: tuple[Reference, ...]
    known: list[PairScore]
    pairs: list[Pair]
    again: list[Pair]
    asked: list[Asked]
    usage: Usage

    @property
    def calls(self) -> list[Pair | PlannedSample]:
        """All calls to the engine."""
        return [*self.pairs, *self.again, *(one.call for one in self.asked)]

    def told_apart(self, answers: Sequence[Any]) -> tuple[Sequence[Any], ...]:
        """Of the answers to all calls those to the pairs, to the originals again, to the rest."""
        n, m = len(self.pairs), len(self.pairs) + len(self.again)
        return answers[:n], answers[n:m], answers[m:]

    def pair_scores(self, scored: Sequence[Scored], again: Sequence[Scored]) -> list[PairScore]:
        """The scores of all pairs, those of originals with their second readings.

        Args:
            scored: The answers to the pairs.
            again: The answers to the originals that are scored a second time.
        """
        second = {
            pair.instance_id: math.fsum(answer.token_logprobs)
            for pair, answer in zip(self.again, again, strict=True)
        }
        scores = [*self.known]
        for pair, answer in zip(self.pairs, scored, strict=True):
            greedy = None if answer.is_greedy is None else all(answer.is_greedy)
            size, logprobs = len(pair.prompt), answer.token_logprobs
            scores.append(PairScore.of(pair.instance_id, pair.perturbation, size, logprobs, greedy))
        return [
            score.model_copy(update={"second_logprob": second.get(score.instance_id)})
            if score.perturbation == 0
            else score
            for score in scores
        ]
