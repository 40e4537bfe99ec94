"""What a run tells whoever watches it."""

from __future__ import annotations

from typing import Protocol

from training.run.state import RunStep


class Progress(Protocol):
    """Receives what happens, in order. Steps do not overlap."""

    def begin(self, round_index: int, step: RunStep, total: int | None, unit: str) -> None:
        """A step starts.

        Args:
            round_index: The round; 0 for `before`.
            total: How many units it has; none when that is not known yet.
            unit: What is counted: `tasks`, `steps`, ...
        """
        return

    def advance(self, done: int, total: int | None = None, detail: str = "") -> None:
        """The step has got to `done` units in all; `total` corrects the one given before."""
        return

    def end(self, round_index: int, step: RunStep, seconds: float, summary: str) -> None:
        """The step is done and recorded; `summary` says in a phrase what came out."""
        return


class Silent(Progress):
    """Tells nobody."""
