"""What is asked about one task."""

from __future__ import annotations

from dataclasses import dataclass

from engine.protocol.api import PairScore, Reference, Usage
from engine.questions.backend import PlannedSample
from engine.questions.draft import Drafted
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
        drafts: Of each of these, how it is drawn from a draft, if it is.
    """

    plan: TaskPlan
    group: int
    references: tuple[Reference, ...]
    known: list[PairScore]
    pairs: list[Pair]
    again: list[Pair]
    asked: list[Asked]
    drafts: list[Drafted | None]
    usage: Usage

    @property
    def calls(self) -> list[Pair | PlannedSample]:
        """All calls to the engine."""
        return [*self.pairs, *self.again, *(one.call for one in self.asked)]
