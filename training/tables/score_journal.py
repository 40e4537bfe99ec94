"""The journals of a scoring: finished tasks, a line each, and those that were skipped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from engine.errors import InputError
from engine.files import LineJournal
from engine.protocol.api import SkippedTask, TaskScore


class ScoreJournal(LineJournal[TaskScore]):
    """Finished task scores, one JSON line each, synced as they come.

    Use as a context manager to append; `scores` works at any time.

    Args:
        weights_version: Lines of any other version are not part of this scoring.
    """

    def __init__(self, path: Path, weights_version: str) -> None:
        super().__init__(path, TaskScore)
        self.weights_version = weights_version

    def scores(self) -> Iterator[TaskScore]:
        """Finished scores, one at a time, each task's once; a torn last line is ignored.

        Raises:
            InputError: If a line other than the last is broken, or a task has two scores that are
                not equal.
        """
        seen: dict[str, int] = {}
        for score in self.records():
            if score.weights_version != self.weights_version:
                continue
            content = hash(score.model_dump_json(exclude={"usage"}))
            if score.task_id not in seen:
                seen[score.task_id] = content
                yield score
            elif seen[score.task_id] != content:
                problem = "has two scores, and they differ"
                raise InputError(problem, file=self.path, record=score.task_id)


class SkippedUnder(SkippedTask):
    """A task at which the engine failed, and the weights under which it did."""

    weights_version: str


class SkipJournal(LineJournal[SkippedUnder]):
    """Tasks that a scoring left out; no file where it is none.

    Args:
        weights_version: Lines of any other version are not part of this scoring.
    """

    def __init__(self, path: Path, weights_version: str) -> None:
        super().__init__(path, SkippedUnder)
        self.weights_version = weights_version

    def ids(self) -> list[str]:
        """The tasks, in the order in which they came up.

        Raises:
            InputError: If a line other than the last is broken.
        """
        lines = (line for line in self.records() if line.weights_version == self.weights_version)
        return list(dict.fromkeys(line.task_id for line in lines))

    def note(self, task: SkippedTask) -> None:
        """Add a task; it is on disk when this returns."""
        with self:
            line = SkippedUnder(**task.model_dump(), weights_version=self.weights_version)
            self.append(line)
