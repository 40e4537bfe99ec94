"""How far a run is, for those who look from outside: `progress.json`."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from pathlib import Path

from engine.errors import InputError
from engine.files import read_json, write_json
from engine.tasks import Record
from training.run.progress import Progress
from training.run.run_folder import RunFolder
from training.run.state import RunState, RunStep

_SECONDS_BETWEEN = 0.5


class StepProgress(Record):
    """Content of `progress.json`: the step that is going on.

    Attributes:
        round: The round.
        step: The step.
        done: Units done.
        total: Units in all; none while that is not known.
        unit: What is counted.
        detail: What came last, as a phrase.
        started: When the step began, in seconds since 1970.
        seen: When this was written.
    """

    round: int
    step: RunStep
    done: int = 0
    total: int | None = None
    unit: str = ""
    detail: str = ""
    started: float
    seen: float


def current_progress(folder: RunFolder, state: RunState) -> StepProgress | None:
    """How far the current step of a run is, if it has begun."""
    if not folder.progress.is_file():
        return None
    progress = read_json(folder.progress, StepProgress)
    current = (state.current_round, state.current_step)
    return progress if (progress.round, progress.step) == current else None


class ProgressFile:
    """Passes progress on and writes it to a file, at most twice a second.

    Implements `training.run.progress.Progress`.

    Args:
        inner: Who is told as well.
    """

    def __init__(self, path: Path, inner: Progress) -> None:
        self.path = path
        self.inner = inner
        self._now: StepProgress | None = None
        self._written = -math.inf

    def begin(self, round_index: int, step: RunStep, total: int | None, unit: str) -> None:
        now = time.time()
        self._now = StepProgress(
            round=round_index, step=step, total=total, unit=unit, started=now, seen=now
        )
        self._write()
        self.inner.begin(round_index, step, total, unit)

    def advance(self, done: int, total: int | None = None, detail: str = "") -> None:
        assert self._now is not None
        new = {"done": done, "total": total or self._now.total, "detail": detail}
        self._now = self._now.model_copy(update={**new, "seen": time.time()})
        if time.monotonic() - self._written >= _SECONDS_BETWEEN:
            self._write()
        self.inner.advance(done, total, detail)

    def end(self, round_index: int, step: RunStep, seconds: float, summary: str) -> None:
        self.inner.end(round_index, step, seconds, summary)

    def _write(self) -> None:
        assert self._now is not None
        self._written = time.monotonic()
        with suppress(InputError):  # work goes on, though nobody may see how far it is
            write_json(self.path, self._now.model_dump(mode="json"))
