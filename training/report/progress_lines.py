"""Progress for machines, and none at all: what `--json` and `--quiet` put in the place of bars."""

from __future__ import annotations

import json
import os
import sys
import time

from rich.console import Console

from training.report.display import RichProgress

VARIABLE = "JOSTLE_PROGRESS"
"""Environment variable: `json` or `quiet`; bars otherwise."""


def open_progress(console: Console) -> RichProgress:
    """How progress is shown, by `VARIABLE`."""
    mode = os.environ.get(VARIABLE)
    if mode == "json":
        return ProgressLines()
    return RichProgress(Console(quiet=True) if mode == "quiet" else console)


def note(text: str) -> None:
    """A line for a person on standard error; for machines a `note` with its `text`."""
    mode = os.environ.get(VARIABLE)
    if mode == "json":
        tell("note", text=text)
    elif mode != "quiet":
        Console(stderr=True).print(text, highlight=False, markup=False, soft_wrap=True)


class ProgressLines(RichProgress):
    """A JSON object a line on standard error.

    `event` is `begin` (with `step`, `total` and `unit`), `advance` (at most once a second, with
    `step`, `done`, `total` and `detail`) or `end` (with `step`, `seconds` and `summary`).
    """

    def __init__(self) -> None:
        super().__init__(Console(quiet=True))
        self._step = ""
        self._total: int | None = None
        self._last = 0.0

    def open(self, title: str, total: int | None, unit: str) -> None:
        """A step starts."""
        super().open(title, total, unit)
        self._step, self._total, self._last = title, total, 0.0
        tell("begin", step=title, total=total, unit=unit)

    def advance(self, done: int, total: int | None = None, detail: str = "") -> None:
        """The step has got further."""
        self._total = total or self._total
        if time.monotonic() - self._last >= 1:
            self._last = time.monotonic()
            tell("advance", step=self._step, done=done, total=self._total, detail=detail)

    def done(self, what: str, seconds: float, summary: str) -> None:
        """The step is done."""
        tell("end", step=what, seconds=round(seconds, 3), summary=summary)


def tell(event: str, **fields: object) -> None:
    """Write a line."""
    print(json.dumps({"event": event, **fields}), file=sys.stderr, flush=True)
