"""What an engine answered in a race: kept, so that a race that broke off goes on."""

from __future__ import annotations

from pydantic import Field

from engine.protocol.api import PairScore, Reference, SkippedTask, Usage
from engine.tasks import Record


class Failure(SkippedTask):
    """A task at which the engine failed, and how many moves it was asked to have then."""

    moves: int


class RaceAnswer(Record):
    """One answer of the engine: a race that keeps them can go on after it broke off.

    Attributes:
        weights_version: The weights it comes from.
        usage: What it cost.
        references: Reference outputs of further instances, by task.
        pairs: Scored pairs, by task.
        failed: Tasks that it could not answer for.
    """

    weights_version: str
    usage: Usage
    references: dict[str, tuple[Reference, ...]] = Field(default_factory=dict)
    pairs: dict[str, tuple[PairScore, ...]] = Field(default_factory=dict)
    failed: tuple[Failure, ...] = ()
