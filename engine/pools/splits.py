"""Splits of a pool: the official one that comes with its files, or a new one that does not leak."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from engine.errors import InputError
from engine.files import check_folder, check_output
from engine.pools.formats import NIV2
from engine.pools.lazy import LazyPool
from engine.pools.names import read_names, write_names
from engine.pools.texts import fingerprint
from engine.pools.writing import write_pool
from engine.tasks import Task


def split_folders(path: Path) -> list[Path]:
    """Folders with split files that belong to a folder of tasks, or to one above it."""
    places = [path, path.resolve().parent]
    candidates = [place / "splits" / part for place in places for part in ("default", ".")]
    return [folder for folder in candidates if any(folder.glob("*_tasks.txt"))]


def official_names(path: Path, split: str) -> list[str]:
    """The task names of a split file `SPLIT_tasks.txt` beside a folder of tasks.

    Raises:
        InputError: If there is no such split; it lists those that there are.
    """
    folders = split_folders(path)
    for folder in folders:
        file = folder / f"{split}_tasks.txt"
        if file.is_file():
            return read_names(file)
    names = sorted(
        {
            file.name.removesuffix("_tasks.txt")
            for folder in folders
            for file in folder.glob("*_tasks.txt")
        }
    )
    found = f"there are: {', '.join(names)}" if names else "there are no split files"
    raise InputError(f"no split {split!r}; {found}", file=path, field="split")


class Split(NamedTuple):
    """A split of a pool, task ids in the order of the pool.

    Attributes:
        train: Tasks to train on.
        test: Tasks that are held out.
        origin: How they were chosen, as a phrase.
    """

    train: list[str]
    test: list[str]
    origin: str


def official_split(path: Path, task_ids: Iterable[str]) -> Split | None:
    """Train and test of the split files beside a folder of tasks; none if either has no task.

    Raises:
        InputError: If a task is in both.
    """
    ids = list(task_ids)
    for folder in split_folders(path):
        files = [folder / f"{part}_tasks.txt" for part in ("train", "test")]
        if not all(file.is_file() for file in files):
            continue
        train, test = (set(read_names(file)) for file in files)
        if train & test:
            problem = "the task is in train_tasks.txt and in test_tasks.txt"
            raise InputError(problem, file=folder, record=min(train & test))
        split = Split(
            [task_id for task_id in ids if task_id in train],
            [task_id for task_id in ids if task_id in test],
            f"the split in {folder}",
        )
        if split.train and split.test:
            return split
    return None


def write_split(
    pool: LazyPool,
    split: Split,
    folder: Path,
    *,
    lists_only: bool,
    overwrite: bool,
    inputs: Iterable[str] = (),
) -> None:
    """Write `train_tasks.txt` and `test_tasks.txt`, one task id a line, and the two pools.

    Args:
        pool: Gone through once for each side.
        folder: Where the files go; made if it is not there.
        lists_only: Leave out the pools, `train.jsonl` and `test.jsonl`.
        overwrite: Whether files that are there may be replaced.
        inputs: The files that the tasks are read from.

    Raises:
        InputError: If the folder is a file, a task is no longer there, or see
            `engine.files.check_output`.
    """
    sides = {"train": split.train, "test": split.test}
    endings = ["_tasks.txt"] if lists_only else ["_tasks.txt", ".jsonl"]
    read = list(inputs)
    names = [f"{name}{ending}" for name in sides for ending in endings]
    check_folder(folder)
    for path in (folder / name for name in names if folder.exists()):
        check_output(path, overwrite=overwrite, inputs=read)
    for name, ids in sides.items():
        write_names(folder / f"{name}_tasks.txt", ids)
        if not lists_only:
            write_pool(_all_of(pool, ids), folder / f"{name}.jsonl", overwrite=overwrite)


def _all_of(pool: LazyPool, ids: Iterable[str]) -> Iterator[Task]:
    left = set(ids)
    for task in pool:
        if task.id in left:
            left.remove(task.id)
            yield task
    if left:
        raise InputError("changed while it was read", file=pool.source, record=min(left))


def split_pool(pool: LazyPool, *, by: str, share: float, seed: int, official: bool) -> Split:
    """The official split of a pool if it has one and it is wanted, or else a new one.

    Raises:
        InputError: See `official_split` and `new_split`.
    """
    kept = None
    if official and pool.format == NIV2:
        kept = official_split(Path(pool.source), [Path(file).stem for file in pool.files])
    return kept or new_split(pool, by=by, share=share, seed=seed, source=pool.source)


def new_split(tasks: Iterable[Task], *, by: str, share: float, seed: int, source: str) -> Split:
    """A seeded split on whose two sides no category and no definition is the same.

    Tasks whose definitions differ only in case and white space stay on one side, and so do, `by`
    category, all tasks of a category. Sides are filled with whole such units, so the share is met
    as nearly as they allow.

    Args:
        tasks: The tasks; gone through once.
        by: `category` or `task`.
        share: Share of the tasks that is held out, in (0, 1).
        source: Where the tasks come from, for messages.

    Raises:
        InputError: If a task has no category though they are to be kept together, or everything
            belongs together.
    """
    if by not in ("category", "task"):
        raise InputError(f"cannot split by {by!r}; valid: category, task", field="by")
    if not 0 < share < 1:
        raise InputError("must lie between 0 and 1", field="share")
    order: list[str] = []
    groups: list[list[object]] = []
    for task in tasks:
        if by == "category" and task.category is None:
            problem = "has no category; name its column, or split by task"
            raise InputError(problem, file=source, record=task.id, field="category")
        order.append(task.id)
        keys: list[object] = [fingerprint(task.definition)]
        groups.append([*keys, ("category", task.category)] if by == "category" else keys)
    units = list(_united(order, groups))
    if len(units) < 2:
        what = "all tasks share a category or a definition" if order else "holds no task"
        raise InputError(f"cannot be split: {what}", file=source)
    held = _choose(units, share * len(order), seed)
    whole = "whole categories" if by == "category" else "single tasks"
    return Split(
        [task_id for task_id in order if task_id not in held],
        [task_id for task_id in order if task_id in held],
        f"{whole}, drawn with seed {seed}",
    )


def _united(ids: list[str], groups: list[list[object]]) -> Iterator[list[str]]:
    """Tasks that are connected through shared keys, in the order of their first task."""
    parent = list(range(len(ids)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    owner: dict[object, int] = {}
    for index, keys in enumerate(groups):
        for key in keys:
            ours, theirs = root(index), root(owner.setdefault(key, index))
            # The earlier task is the root, so that units come in the order of the pool.
            parent[max(ours, theirs)] = min(ours, theirs)
    members: dict[int, list[str]] = {}
    for index, task_id in enumerate(ids):
        members.setdefault(root(index), []).append(task_id)
    return iter(members.values())


def _choose(units: list[list[str]], wanted: float, seed: int) -> set[str]:
    """Ids of whole units, in random order, as long as they bring the number nearer to `wanted`."""
    shuffled = list(units)
    random.Random(f"split/{seed}").shuffle(shuffled)
    chosen: list[list[str]] = []
    count = 0
    for unit in shuffled:
        if abs(count + len(unit) - wanted) < abs(count - wanted):
            chosen.append(unit)
            count += len(unit)
    if not chosen:  # every unit is more than twice too large
        chosen = [min(shuffled, key=lambda unit: len(unit))]
    if len(chosen) == len(units):
        chosen.pop()
    return {task_id for unit in chosen for task_id in unit}
