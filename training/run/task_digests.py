"""Which tasks a run was started with: enough to say later what has changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Self

from engine.tasks import Pool, Record, Task, digest_tasks

_SHOWN = 3


class TaskDigests(Record):
    """Content of `tasks.json`.

    Attributes:
        pool: The first 16 hex digits of each task's sha256, by task id, in pool order.
        held_out: The same of the held-out tasks.
    """

    pool: dict[str, str]
    held_out: dict[str, str]

    @classmethod
    def of(cls, pool: Pool, held_out: Pool) -> Self:
        return cls(pool=_digests(pool), held_out=_digests(held_out))

    def unchanged(self, pool: Iterable[Task]) -> tuple[Task, ...]:
        """Those of some tasks that were in the pool, as they are now."""
        return tuple(task for task in pool if self.pool.get(task.id) == _digest(task))

    def differences(self, other: TaskDigests) -> list[str]:
        """What differs in `other`, as phrases such as `pool: task7 is new`."""
        return [
            *(f"pool: {each}" for each in _differences(self.pool, other.pool)),
            *(f"held out: {each}" for each in _differences(self.held_out, other.held_out)),
        ]


def _digests(pool: Pool) -> dict[str, str]:
    return {task.id: _digest(task) for task in pool}


def _digest(task: Task) -> str:
    return digest_tasks([task])[:16]


def _differences(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    changed = [name for name in new if name in old and new[name] != old[name]]
    for names, single, several in (
        ([name for name in new if name not in old], "is new", "are new"),
        ([name for name in old if name not in new], "is missing", "are missing"),
        (changed, "has changed", "have changed"),
    ):
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            verb = single if len(names) == 1 else several
            yield f"{', '.join(names[:_SHOWN])}{more} {verb}"
