"""From the name of a pool to its tasks: what its files are, and how they are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from engine.errors import InputError
from engine.pools.building import single_tasks
from engine.pools.checks import Checker, Faults, IgnoredFaults
from engine.pools.formats import (
    FORMATS,
    NIV2,
    Format,
    InstanceFormat,
    TaskFormat,
    detect_format,
)
from engine.pools.grouping import Grouping
from engine.pools.instances import SYSTEM
from engine.pools.json_file import holds_task, read_json
from engine.pools.lazy import LazyPool, TaskReader
from engine.pools.niv2 import read_niv2, task_files
from engine.pools.options import PoolOptions
from engine.pools.parts import IS_PACKED, PACKED, files_ending, refuse_packed
from engine.pools.rows import Located, Row, RowReader, read_csv, read_jsonl
from engine.pools.splits import official_names
from engine.pools.tables import HUB, is_dataset_folder, open_dataset, read_dataset, read_parquet
from engine.tasks import Pool, Task

BUNDLED = "bundled"
READERS: dict[str, Callable[[Path, Faults], Iterator[Row]]] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
}
"""Readers of rows, by the ending of the file's name."""

_LOOKED_AT = 100  # rows, or files of a folder, that show the format


def load_pool(
    spec: str | Path, options: PoolOptions | None = None, faults: Faults | None = None
) -> Pool:
    """All tasks of a pool, in memory; see `open_pool`.

    Raises:
        InputError: The first fault, naming file, record and field, unless `faults` takes it.
    """
    return open_pool(spec, options, faults).in_memory()


def open_pool(
    spec: str | Path, options: PoolOptions | None = None, faults: Faults | None = None
) -> LazyPool:
    """A pool whose tasks are read when it is gone through.

    Args:
        spec: A file (`.json`, `.jsonl`, `.ndjson`, `.csv`, `.tsv`, `.parquet`); a folder of
            Super-NaturalInstructions files, of parts of one of the other kinds, or one that
            `save_to_disk` of `datasets` wrote; `hub:` and a data set on the model hub; or
            `bundled`, the pool that ships with the package.
        options: How it is read; format and columns are found out where they are not given.
        faults: Takes the faults of records and tasks, which are then left out; the first is raised
            where there is none. What is wrong with the pool as a whole is raised in any case.

    Raises:
        InputError: If there is no such pool, or what it holds is unknown or ambiguous; the valid
            formats are listed. Faults of single tasks come up when the pool is gone through.
    """
    pool = _opened(spec, options or PoolOptions())
    pool.faults = faults or pool.faults
    return pool


def _opened(spec: str | Path, options: PoolOptions) -> LazyPool:
    if options.format is not None:
        FORMATS.find(options.format, field="format")
    name = str(spec)
    if name.startswith(HUB):
        return _open_dataset(name, options)
    _refuse(options, ("subset",), name, "only data sets of the hub have subsets")
    if name == BUNDLED:
        _refuse(options, ("format", "columns", "split"), name, "the bundled pool is read as it is")
        return _open_bundled(options)
    path = existing_path(name)
    if path.is_dir() and is_dataset_folder(path):
        return _open_dataset(str(path), options)
    if _is_niv2(path, options.format):
        _refuse(options, ("columns",), name, "files of this format have no columns to be named")
        return _open_niv2(path, options)
    _refuse(options, ("split",), name, "this pool has no splits")
    files = part_files(path)
    reader = READERS[files[0].suffix.lower()]

    def read(faults: Faults) -> Iterator[Row]:
        for file in files:
            yield from reader(file, faults)

    return _open_rows(str(path), [str(file) for file in files], read, options)


def _refuse(options: PoolOptions, fields: Sequence[str], source: str, problem: str) -> None:
    """That options which would be without effect are not given.

    Raises:
        InputError: If one of these fields is.
    """
    for field in fields:
        if getattr(options, field) != PoolOptions.model_fields[field].default:
            raise InputError(problem, file=source, field=field)


def existing_path(name: str) -> Path:
    """A file or a folder.

    Raises:
        InputError: If it is not there, or what it holds can be read but once.
    """
    try:
        path = Path(name).expanduser()
        if path.is_dir() or path.is_file():
            return path
        there = path.exists()
    except (OSError, RuntimeError) as error:  # no folder of this person, a name that is too long
        raise InputError(f"cannot be opened: {error}", file=name) from error
    problem = "can be read but once, and is gone through several times; write it to a file"
    raise InputError(problem if there else "no such file or folder", file=path)


def _open_bundled(options: PoolOptions) -> LazyPool:
    def read(_faults: Faults) -> Iterator[Located]:
        from engine.pools.bundled import training_pool

        for task in training_pool():
            yield Located(task, BUNDLED, task.id)

    return LazyPool(BUNDLED, BUNDLED, [], read, options)


def _open_dataset(spec: str, options: PoolOptions) -> LazyPool:
    dataset = open_dataset(spec, options.split, options.subset)
    return _open_rows(spec, [spec], partial(read_dataset, dataset, spec), options)


def _is_niv2(path: Path, named: str | None) -> bool:
    """Whether a path holds Super-NaturalInstructions files, as named or by its looks."""
    if named is not None:
        return named == NIV2 and (path.is_dir() or path.suffix.lower() == ".json")
    if path.is_file():
        return path.suffix.lower() == ".json" and bool(holds_task(path))
    files = task_files(path)
    # A folder of JSON arrays is a pool in parts. One task tells it, whatever lies beside it.
    unread = True
    for holds in map(holds_task, files[:_LOOKED_AT]):
        if holds:
            return True
        unread = unread and holds is None
    return bool(files) and unread


def _open_niv2(path: Path, options: PoolOptions) -> LazyPool:
    files = task_files(path) if path.is_dir() else [path]
    if not files:
        raise InputError("holds no .json files", file=path)
    if options.split is not None:
        names = set(official_names(path, options.split))
        files = [file for file in files if file.stem in names]
        if not files:
            raise InputError(f"none of its tasks is in the split {options.split!r}", file=path)

    def read(faults: Faults) -> Iterator[Located]:
        for file in files:
            for task in read_niv2([file], faults):
                yield Located(task, str(file), "")

    return LazyPool(str(path), NIV2, [str(file) for file in files], read, options)


def part_files(path: Path) -> list[Path]:
    """The files of a pool, all of one kind.

    Raises:
        InputError: If there is none, one is packed, or there are several kinds.
    """
    known = ", ".join(READERS)
    if path.is_file():
        if path.suffix.lower() not in READERS:
            problem = f"unknown kind of file {path.suffix!r}; valid endings: {known}"
            if path.suffix.lower() in PACKED:
                problem = IS_PACKED
            raise InputError(problem, file=path)
        return [path]
    files = files_ending(path, READERS)
    kinds = Counter(file.suffix.lower() for file in files)
    if not files:
        refuse_packed(path, READERS)
        raise InputError(f"holds no file that ends in one of {known}", file=path)
    if len(kinds) > 1:
        found = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        raise InputError(f"ambiguous: holds files of several kinds ({found}); name one", file=path)
    return files


def _open_rows(
    source: str, files: Sequence[str], read: RowReader, options: PoolOptions
) -> LazyPool:
    first = list(islice(read(IgnoredFaults()), _LOOKED_AT))
    if options.format is None:
        if not first:
            next(read(Faults()), None)  # raises what is wrong with the file, if it is not empty
        form = detect_format(first, options.columns, source)
    else:
        form = FORMATS.find(options.format, field="format")
    _check_columns(first, options, source)
    return LazyPool(source, form.name, files, _task_reader(form, first, read, options), options)


def _check_columns(first: Sequence[Row], options: PoolOptions, source: str) -> None:
    """That there are all columns that the user named.

    Raises:
        InputError: If there is one that is not.
    """
    there: dict[str, Any] = {}
    for row in first:
        there |= row.values
    for role, column in options.columns.model_dump(exclude_none=True).items():
        if first and column not in there and column != SYSTEM:
            problem = f"no column {column!r}; there are: {', '.join(there)}"
            raise InputError(problem, file=source, field=f"columns.{role}")


def _task_reader(
    form: Format, first: Sequence[Row], read: RowReader, options: PoolOptions
) -> TaskReader:
    if isinstance(form, TaskFormat):
        return partial(_whole_tasks, read, form, options)
    column = options.columns.task
    if column is not None and not _have_definitions(form, first, options):
        # One complaint in the place of one per row.
        raise InputError(
            "rows that are grouped into tasks need a definition; name the column that holds it, "
            f"one of {', '.join(first[0].values)}",
            file=first[0].file,
            field="columns.definition",
        )
    if column is None and any(form.task_column in row.values for row in first):
        column = form.task_column if _have_definitions(form, first, options) else None
    if column is None:
        return partial(single_tasks, read, form, options)
    return partial(Grouping(form, options, column).tasks, read)


def _have_definitions(form: InstanceFormat, first: Sequence[Row], options: PoolOptions) -> bool:
    """Whether any of the first rows has one, as rows that are grouped must."""
    checks = [(Checker(IgnoredFaults(), row.file, row.place), row) for row in first]
    parts = [form.parse(row, options.columns, check) for check, row in checks]
    good = [one for (check, _), one in zip(checks, parts, strict=True) if not check.bad]
    return not good or any(one.definition for one in good)


def _whole_tasks(
    read: RowReader, form: TaskFormat, options: PoolOptions, faults: Faults
) -> Iterator[Located]:
    for row in read(faults):
        check = Checker(faults, row.file, row.place)
        task: Task | None = form.parse(row, options.columns, check)
        if task is not None:
            yield Located(task, row.file, row.place)
