"""Finds every fault of a pool in one go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from engine.errors import InputError
from engine.pools.checks import ToldFaults
from engine.pools.formats import NIV2
from engine.pools.lazy import LazyPool
from engine.pools.names import read_names
from engine.pools.notes import OutputNotes
from engine.pools.opening import open_pool
from engine.pools.options import PoolOptions
from engine.pools.splits import split_folders
from engine.tasks import Record


class PoolValidation(Record):
    """What was found in a pool.

    Attributes:
        source: The pool.
        format: Its format; none if it could not be told.
        tasks: Tasks without a fault.
        instances: Instances of those.
        faults: Faults told.
        notes: What is no fault and yet worth knowing.
    """

    source: str
    format: str | None
    tasks: int
    instances: int
    faults: int
    notes: tuple[str, ...] = ()


def validate_pool(
    spec: str | Path, options: PoolOptions, tell: Callable[[InputError], None]
) -> PoolValidation:
    """Read a pool to its end.

    A syntax error in a JSON file hides what follows it in that file; everything else is told
    independently. A row at fault leaves its task without it, not out.

    Args:
        tell: Called with every fault as it is found.
    """
    faults = ToldFaults(tell)
    try:
        pool = open_pool(spec, options)
    except InputError as error:
        faults.add(error)
        return PoolValidation(source=str(spec), format=None, tasks=0, instances=0, faults=1)
    n_tasks = n_instances = 0
    outputs = OutputNotes()
    for task in pool.tasks(faults):
        outputs.look(task)
        n_tasks += 1
        n_instances += len(task.instances)
    if not n_tasks and not faults.count:
        faults.add(InputError("holds no task", file=pool.source))
    notes = [f"{phrase}: {count:,} record(s)" for phrase, count in faults.notes.most_common()]
    notes += outputs.notes()
    if pool.format == NIV2:
        notes += _check_splits(pool, faults)
    return PoolValidation(
        source=pool.source,
        format=pool.format,
        tasks=n_tasks,
        instances=n_instances,
        faults=faults.count,
        notes=tuple(notes),
    )


def _check_splits(pool: LazyPool, faults: ToldFaults) -> Iterator[str]:
    """Tell the faults of the split files beside a folder of tasks; yields notes."""
    ids = {Path(file).stem for file in pool.files}
    for folder in split_folders(Path(pool.source)):
        sides: dict[str, str] = {}
        for file in sorted(folder.glob("*_tasks.txt")):
            names: list[str] = []
            with suppress(InputError):
                names = read_names(file)
            if not names:
                faults.add(InputError("holds no readable task names", file=file))
            seen: set[str] = set()
            for name in names:
                other = sides.setdefault(name, file.name)
                if other != file.name:
                    faults.add(InputError(f"the task is in {other} too", file=file, record=name))
                elif name in seen:
                    faults.add(InputError("is named twice", file=file, record=name))
                seen.add(name)
            absent = set(names) - ids
            if absent and pool.options.split is None:
                yield f"{file}: {len(absent)} of {len(names)} tasks are not here ({min(absent)}...)"
