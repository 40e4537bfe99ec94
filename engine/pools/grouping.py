"""Rows that hold one instance each become tasks, in memory that does not grow with their number.

Rows of a task that stand next to each other make a task as they are read. Where the rows of
different tasks are mixed and too many to hold, they are first written to temporary files, each of
which gets the rows of a few tasks.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, NamedTuple

from engine.errors import InputError
from engine.pools.building import TaskBuilder
from engine.pools.checks import Checker, Faults, IgnoredFaults
from engine.pools.formats import InstanceFormat
from engine.pools.instances import SYSTEM, RowParts, row_key
from engine.pools.options import PoolOptions
from engine.pools.rows import Located, Row, RowReader
from engine.tasks import sample_positions

_BUCKET_BYTES = 24 << 20
_MOST_BUCKETS = 200  # as many files are open at once

_NO_PARTS = RowParts("", "", ())


class _Keyed(NamedTuple):
    """A row, the id of its task, and which of the task's rows it is."""

    task_id: str
    position: int
    row: Row


@dataclass
class _Survey:
    """What a first pass over the rows finds.

    Attributes:
        rows: Rows of each task, in the order in which the tasks first occur.
        size: Bytes of text of each task, about.
        mixed: Whether rows of a task stand behind rows of another that stand behind its own.
    """

    rows: dict[str, int] = field(default_factory=dict)
    size: dict[str, int] = field(default_factory=dict)
    mixed: bool = False


@dataclass(frozen=True)
class Grouping:
    """Groups rows into tasks by the values of a column."""

    form: InstanceFormat
    options: PoolOptions
    column: str

    def tasks(self, read: RowReader, faults: Faults) -> Iterator[Located]:
        """The tasks, in the order in which they first occur; the rows are read twice."""
        survey = self._survey(read)
        rows = self._kept_rows(read, survey, faults)
        if not survey.mixed:
            for task_id, own in groupby(rows, key=lambda keyed: keyed.task_id):
                yield from self._together([task_id], own, faults)
        elif sum(survey.size.values()) <= _BUCKET_BYTES:
            yield from self._together(survey.rows, rows, faults)
        else:
            yield from self._through_files(survey, rows, faults)

    def _key(self, row: Row, check: Checker) -> str:
        virtual = self.column == SYSTEM and SYSTEM not in row.values
        parts = self.form.parse(row, self.options.columns, check) if virtual else _NO_PARTS
        return row_key(row, self.column, parts, check)

    def _survey(self, read: RowReader) -> _Survey:
        survey = _Survey()
        faults = IgnoredFaults()  # the second reading tells them
        last = None
        for row in read(faults):
            check = Checker(faults, row.file, row.place)
            key = self._key(row, check)
            if check.bad:
                continue
            survey.mixed |= key != last and key in survey.rows
            survey.rows[key] = survey.rows.get(key, 0) + 1
            survey.size[key] = survey.size.get(key, 0) + _size(row.values)
            last = key
        return survey

    def _kept_rows(self, read: RowReader, survey: _Survey, faults: Faults) -> Iterator[_Keyed]:
        """The rows that have a key, less those that a sample of instances leaves out.

        Raises:
            InputError: If they are not those of the survey.
        """
        kept = self._sample(survey)
        positions = dict.fromkeys(survey.rows, 0)
        file = None
        for row in read(faults):
            file = row.file
            check = Checker(IgnoredFaults(), row.file, row.place)
            key = self._key(row, check)
            if check.bad:
                self._key(row, Checker(faults, row.file, row.place))
                continue  # of the others the task's builder tells what there is to tell
            if positions.get(key) == survey.rows.get(key):  # it is one more
                raise InputError("changed while it was read", file=row.file, record=row.place)
            position = positions[key]
            positions[key] += 1
            if key not in kept or position in kept[key]:
                yield _Keyed(key, position, row)
        if positions != survey.rows:
            raise InputError("changed while it was read", file=file)

    def _sample(self, survey: _Survey) -> dict[str, set[int]]:
        """The positions that are kept, of the tasks that have more rows than are wanted."""
        most = self.options.max_instances
        if most is None:
            return {}
        kept: dict[str, set[int]] = {}
        for key, n_rows in survey.rows.items():
            if n_rows > most:
                kept[key] = set(sample_positions(key, n_rows, most, self.options.seed))
                survey.size[key] = survey.size[key] * most // n_rows
        return kept

    def _together(
        self, task_ids: Iterable[str], rows: Iterable[_Keyed], faults: Faults
    ) -> Iterator[Located]:
        """Tasks whose rows are held at once."""
        builders: dict[str, TaskBuilder] = {}
        for keyed in rows:
            if keyed.task_id not in builders:
                builders[keyed.task_id] = TaskBuilder(
                    keyed.task_id, self.form, self.options, faults, self.column
                )
            builders[keyed.task_id].add(keyed.row, keyed.position)
        for task_id in task_ids:
            found = builders.pop(task_id).build()
            if found is not None:
                yield found

    def _through_files(
        self, survey: _Survey, rows: Iterator[_Keyed], faults: Faults
    ) -> Iterator[Located]:
        bucket_of = _buckets(survey.size)
        n_buckets = max(bucket_of.values()) + 1
        with tempfile.TemporaryDirectory(prefix="jostle-pool-") as folder:
            files = [Path(folder) / f"{bucket}.pickle" for bucket in range(n_buckets)]
            with ExitStack() as stack:
                streams = [stack.enter_context(file.open("wb")) for file in files]
                for keyed in rows:
                    # JSON has no form for dates and bytes of a table, which are faults.
                    pickle.dump(keyed, streams[bucket_of[keyed.task_id]])
            for bucket, file in enumerate(files):
                task_ids = [key for key, number in bucket_of.items() if number == bucket]
                with file.open("rb") as stream:
                    yield from self._together(task_ids, _unpickled(stream), faults)
                file.unlink()


def _buckets(sizes: dict[str, int]) -> dict[str, int]:
    """The number of the file that each task's rows go to; tasks of a file follow each other."""
    largest = max(_BUCKET_BYTES, sum(sizes.values()) // _MOST_BUCKETS)
    numbers: dict[str, int] = {}
    number, filled = 0, 0
    for task_id, size in sizes.items():
        if filled and filled + size > largest:
            number, filled = number + 1, 0
        numbers[task_id] = number
        filled += size
    return numbers


def _size(value: object) -> int:
    """Bytes of text in a value, about."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    return sum(map(_size, value)) if isinstance(value, list) else 8


def _unpickled(stream: BinaryIO) -> Iterator[_Keyed]:
    while True:
        try:
            yield pickle.load(stream)
        except EOFError:
            return
