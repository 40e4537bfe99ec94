"""A pool that is read from its files each time it is gone through, one task at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy

from engine.errors import InputError
from engine.pools.checks import Faults
from engine.pools.options import PoolOptions
from engine.pools.rows import Located
from engine.tasks import Pool, Task

TaskReader = Callable[[Faults], Iterator[Located]]
"""Reads all tasks from the start, telling the faults of those that it leaves out."""


class LazyPool:
    """An ordered set of tasks with unique ids, of which one at a time is held in memory.

    Going through it reads its files, and raises `InputError` at the first fault unless `faults`
    takes it.

    Args:
        source: Where the tasks come from, for messages.
        format: Name of the format, see `engine.pools.formats.FORMATS`.
        files: The files it is read from; none for what is not read from files.

    Attributes:
        faults: Takes the faults of what is left out; it raises the first of them unless set anew.
    """

    def __init__(
        self,
        source: str,
        format: str,
        files: Sequence[str],
        read: TaskReader,
        options: PoolOptions,
    ) -> None:
        self.source = source
        self.format = format
        self.files = tuple(files)
        self.options = options
        self.faults = Faults()
        self._read = read
        self._checks: tuple[Callable[[Task], object], ...] = ()

    def __iter__(self) -> Iterator[Task]:
        return self.tasks(self.faults)

    def where(self, check: Callable[[Task], object]) -> LazyPool:
        """The pool in which tasks are at fault, too, on which `check` raises `InputError`."""
        checked = copy(self)
        checked._checks = (*self._checks, check)
        return checked

    def tasks(self, faults: Faults) -> Iterator[Task]:
        """The tasks; those with a fault are left out when `faults` does not raise it."""
        places: dict[str, tuple[str, str]] = {}
        most = self.options.max_instances
        for task, file, place in self._read(faults):
            other = places.setdefault(task.id, (file, place))
            if other != (file, place):
                where = other[1] if other[0] == file else ", ".join(filter(None, other))
                problem = f"the id {task.id!r} is also that of {where}"
                faults.add(InputError(problem, file=file, record=place or None, field="id"))
                continue
            if most is not None and len(task.instances) > most:
                task = task.with_instances(task.sample_instances(most, self.options.seed))
            try:
                for check in self._checks:
                    check(task)
            except InputError as fault:
                record = fault.record or task.id
                faults.add(InputError(fault.problem, file=file, record=record, field=fault.field))
            else:
                yield task

    def in_memory(self) -> Pool:
        return Pool(list(self), self.source)

    def find(self, task_id: str | None = None) -> Task:
        """The task with this id, or the first one.

        Raises:
            InputError: If it is not there, or there is none.
        """
        for task in self:
            if task_id in (None, task.id):
                return task
        problem = "holds no task" if task_id is None else "no such task"
        raise InputError(problem, file=self.source, record=task_id)
