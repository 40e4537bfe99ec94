"""The selected part of a pool: whole tasks, and single instances of others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from engine.errors import InputError
from engine.tasks import Task


def only_selected(tasks: Iterable[Task], names: Sequence[str], source: Path) -> Iterator[Task]:
    """The tasks that are named, and of others the instances that are named `task/instance`.

    Args:
        source: The file of the names, for messages.

    Raises:
        InputError: At the end, if something is named that was not there.
    """
    left = set(names)
    wanted = frozenset(names)
    for task in tasks:
        if task.id in wanted:
            left.discard(task.id)
            yield task
            continue
        of_rows = {f"{task.id}/{instance.id}": instance for instance in task.instances}
        if chosen := [name for name in of_rows if name in wanted]:
            left -= set(chosen)
            yield task.with_instances(of_rows[name] for name in chosen)
    if left:
        problem = f"{len(left):,} selected, such as this, are not in the pool"
        raise InputError(problem, file=source, record=min(left))
