"""Writes pools in our own form, one task at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from engine.errors import InputError
from engine.files import check_output, replacing, write_bytes
from engine.tasks import Task

_GROUP_BYTES = 8 << 20  # of text in a row group, about
_GROUP_ROWS = 20_000


class Written(NamedTuple):
    """What was written: how many tasks and how many instances of them."""

    tasks: int
    instances: int


def write_pool(
    tasks: Iterable[Task], path: Path, *, overwrite: bool = False, inputs: Iterable[str] = ()
) -> Written:
    """Write tasks to a `.jsonl` or a `.parquet` file, one task per line or row.

    The file is written beside itself and renamed into place when it is whole.

    Args:
        overwrite: Whether a file that is there may be replaced.
        inputs: The files that the tasks are read from.

    Raises:
        InputError: If the file has another ending, or see
            `engine.files.check_output`. What the tasks raise passes through; no file stays.
    """
    writers: dict[str, Callable[[Iterable[Task], Path], Written]] = {
        ".jsonl": _write_jsonl,
        ".parquet": _write_parquet,
    }
    if path.suffix.lower() not in writers:
        problem = f"cannot be written; valid endings: {', '.join(writers)}"
        raise InputError(problem, file=path)
    check_output(path, overwrite=overwrite, inputs=inputs)
    with replacing(path) as part:
        return writers[path.suffix.lower()](tasks, part)


def write_left_out(path: Path, faults: Sequence[InputError]) -> None:
    """Write down what was left out and why, a JSON object a line; no file if it was nothing, an
    older one neither.

    Raises:
        InputError: If the file cannot be written.
    """
    if faults:
        write_bytes(path, "".join(map(left_out_line, faults)).encode())
    else:
        path.unlink(missing_ok=True)


def left_out_line(fault: InputError) -> str:
    """A line that says what was left out and why."""
    found = {"file": fault.file, "record": fault.record, "field": fault.field}
    return json.dumps(found | {"reason": fault.problem}) + "\n"


def _write_jsonl(tasks: Iterable[Task], path: Path) -> Written:
    n_tasks = n_instances = 0
    with path.open("w", encoding="utf-8") as stream:
        for task in tasks:
            stream.write(task.model_dump_json())
            stream.write("\n")
            n_tasks += 1
            n_instances += len(task.instances)
    return Written(n_tasks, n_instances)


def _write_parquet(tasks: Iterable[Task], path: Path) -> Written:
    n_tasks = n_instances = 0
    with parquet_groups(path, _schema()) as write:
        for task in tasks:
            n_tasks += 1
            n_instances += len(task.instances)
            letters = sum(len(one.input) + sum(map(len, one.outputs)) for one in task.instances)
            write(task.model_dump(), len(task.definition) + letters)
    return Written(n_tasks, n_instances)


@contextmanager
def parquet_groups(
    path: Path, schema: Any, to_table: Callable[[list[dict[str, Any]]], Any] | None = None
) -> Iterator[Callable[[dict[str, Any], int], None]]:
    """Takes the rows of a Parquet file, each with its letters; a group has some megabytes of them.

    `to_table` makes a `pyarrow.Table` of rows that are not of the schema as they are.
    """
    # Not by polars, whose row groups are counted in rows: a thousand large tasks fill the memory.
    import pyarrow.parquet  # type: ignore[import-untyped]

    table = to_table or (lambda rows: pyarrow.Table.from_pylist(rows, schema))
    group: list[dict[str, Any]] = []
    filled = 0

    def write(row: dict[str, Any], letters: int) -> None:
        nonlocal filled
        group.append(row)
        filled += letters
        if filled >= _GROUP_BYTES or len(group) >= _GROUP_ROWS:
            writer.write_table(table(group))
            group.clear()
            filled = 0

    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        yield write
        writer.write_table(table(group))


def _schema() -> Any:
    """The fields of `engine.tasks.Task`."""
    import pyarrow as pa

    text = pa.string()
    example = pa.struct([("input", text), ("output", text), ("explanation", text)])
    instance = pa.struct([("id", text), ("input", text), ("outputs", pa.list_(text))])
    return pa.schema(
        [
            ("id", text),
            ("definition", text),
            ("positive_examples", pa.list_(example)),
            ("negative_examples", pa.list_(example)),
            ("instances", pa.list_(instance)),
            ("category", text),
            ("labels", pa.list_(text)),
            ("classification", pa.bool_()),
        ]
    )
