"""A report after every round."""

from __future__ import annotations

from collections.abc import Sequence

from engine.tasks import Task
from training.run.progress import Progress
from training.run.run_folder import RunFolder
from training.run.state import RunStep


class ReportAfterRounds:
    """Passes progress on, and writes `report.html` when a round is done.

    Implements `training.run.progress.Progress`.

    Args:
        tasks: Those of the run's pool.
        inner: Who is told as well.
    """

    def __init__(self, folder: RunFolder, tasks: Sequence[Task], inner: Progress) -> None:
        self._folder = folder
        self._tasks = tasks
        self._inner = inner
        self.begin = inner.begin
        self.advance = inner.advance

    def end(self, round_index: int, step: RunStep, seconds: float, summary: str) -> None:
        """A step is done; after the last of a round the report is written."""
        self._inner.end(round_index, step, seconds, summary)
        if step == RunStep.EVALUATE:
            from training.report.run_report import write_run_report

            write_run_report(self._folder, self._tasks)
