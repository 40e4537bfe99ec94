"""What `selection.json` holds: which tasks were taken, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.files import read_json
from engine.pools.names import read_names
from engine.tasks import Record


class SelectedTask(Record):
    """Why a task was taken.

    Attributes:
        task_id: The task.
        rank: 1 is the first choice.
        value: The number the strategy ranked by; none where there was no number.
        reason: The same in words.
        stratum: The group it was taken for, where there are groups.
        forced: Whether it was taken because the user said so.
    """

    task_id: str
    rank: int
    value: float | None
    reason: str
    stratum: str | None = None
    forced: bool = False


class Selection(Record):
    """Content of `selection.json`.

    Attributes:
        strategy: Name of the strategy.
        settings: All settings of the strategy, its name included.
        seed: Seed of the draw, where there is one.
        n_asked: Tasks asked for.
        n_candidates: Tasks that could have been taken, forced ones included.
        excluded: Scored tasks that could not be taken, because the user said so.
        weights_version: The weights the scores were computed with.
        notes: What the user ought to know, such as fewer tasks than were asked for.
        tasks: The selected tasks, first choice first.
    """

    strategy: str
    settings: dict[str, Any]
    seed: int
    n_asked: int
    n_candidates: int
    excluded: tuple[str, ...] = ()
    weights_version: str
    notes: tuple[str, ...] = ()
    tasks: tuple[SelectedTask, ...]

    @property
    def task_ids(self) -> tuple[str, ...]:
        return tuple(task.task_id for task in self.tasks)


def read_task_ids(path: Path) -> tuple[str, ...]:
    """Task ids of a `selection.json`, or of a file with one a line; each once.

    Raises:
        InputError: If the file cannot be read.
    """
    is_record = path.suffix.lower() == ".json"
    names = read_json(path, Selection).task_ids if is_record else read_names(path)
    return tuple(dict.fromkeys(names))
