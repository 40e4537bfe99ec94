"""Rows of text files: JSON Lines and CSV. One row at a time is held in memory.

Read line by line in plain Python and not by polars, whose readers name no line in their errors and
stop at the first of them.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from engine.errors import InputError
from engine.pools.checks import Faults, kind
from engine.pools.json_text import JsonError, parse_json
from engine.tasks import Task
from engine.unicode_text import file_encoding, is_unicode


class Row(NamedTuple):
    """One record of a file.

    Attributes:
        file: The file.
        place: Where in the file, for messages: `line 3`, `row 3`, `entry 3`, counted from 1.
        number: The number in `place`.
        values: Column names or JSON keys, and what they hold.
    """

    file: str
    place: str
    number: int
    values: dict[str, Any]


class Located(NamedTuple):
    """A task, and the file and the place in it where it was found, for messages."""

    task: Task
    file: str
    place: str


RowReader = Callable[[Faults], Iterator[Row]]
"""Reads all rows from the start, telling the faults of those that it leaves out."""


def read_jsonl(file: Path, faults: Faults) -> Iterator[Row]:
    """Rows of a file with one JSON object a line; blank lines are passed over."""
    name = str(file)
    try:
        with file.open("rb") as stream:
            for number, raw in enumerate(stream, start=1):
                if raw.isspace():
                    continue
                place = f"line {number}"
                try:
                    value = parse_json(raw, one_line=True)
                except JsonError as error:
                    problem = str(error)
                else:
                    if isinstance(value, dict):
                        yield Row(name, place, number, value)
                        continue
                    problem = f"expected a JSON object, found {kind(value)}"
                faults.add(InputError(problem, file=file, record=place))
    except OSError as error:
        faults.add(InputError(f"cannot be read: {error.strerror}", file=file))


def read_csv(file: Path, faults: Faults) -> Iterator[Row]:
    """Rows of a CSV or, if the file's name ends in `.tsv`, a tab-separated file with a header.

    Rows without any value are passed over at the end, where spreadsheets leave them.
    """
    delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
    # A limit of the whole process, 128 KiB at first, which is less than a long document.
    csv.field_size_limit(max(csv.field_size_limit(), sys.maxsize >> 16))
    try:
        if problem := file_encoding(file):
            faults.add(InputError(problem, file=file))
            return
        # Bytes that are no UTF-8 become halves of surrogate pairs, so that reading can go on.
        with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            lines = csv.reader(stream, delimiter=delimiter, strict=True)
            header = _header(file, lines, faults)
            if header:
                yield from _csv_rows(file, lines, header, delimiter, faults)
    except OSError as error:
        faults.add(InputError(f"cannot be read: {error.strerror}", file=file))


def _header(file: Path, lines: Any, faults: Faults) -> list[str]:
    """The column names, none if they are at fault; that of row numbers, the first, is empty."""
    try:
        header: list[str] = next(lines, [])
    except csv.Error as error:
        said = f"not CSV: {error}{_lost(1, lines.line_num)}"
        faults.add(InputError(said, file=file, record="line 1"))
        return []
    names = [name.strip() for name in header]
    problem = None
    if not names:
        problem = "holds no header"
    elif len(names) == 1 and any(mark in names[0] for mark in ",;|\t"):
        problem = f"holds one column, {names[0]!r}; commas part columns, in .tsv files tabs"
    elif not all(names[1:]):
        problem = f"column {names.index('', 1) + 1} of the header has no name"
    elif len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        problem = f"the header names the column {twice!r} twice"
    elif not all(map(is_unicode, names)):
        problem = "not UTF-8"
    if problem:
        faults.add(InputError(problem, file=file, record="line 1"))
        return []
    return names


def _csv_rows(
    file: Path, lines: Any, header: list[str], delimiter: str, faults: Faults
) -> Iterator[Row]:
    name = str(file)
    empty: list[int] = []
    while True:
        number = lines.line_num + 1  # a field may hold line breaks, so it is not the row's number
        place = f"line {number}"
        try:
            values = next(lines, None)
        except csv.Error as error:
            said = f"not CSV: {error}{_lost(number, lines.line_num)}"
            faults.add(InputError(said, file=file, record=place))
            continue
        if values is None:
            return
        if not any(map(str.strip, values)):
            if len(values) == len(header):
                empty.append(number)
            continue  # else a blank line
        for each in empty:
            yield Row(name, f"line {each}", each, dict.fromkeys(header, ""))
        empty.clear()
        problem = None
        if len(values) != len(header):
            problem = f"has {len(values)} fields, the header has {len(header)}"
        elif delimiter == "\t" and any(
            _holds_rows(value, column, len(header) - 1) for column, value in enumerate(values)
        ):
            problem = "a value holds ends of rows"
        if problem:
            problem += _lost(number, lines.line_num)
            faults.add(InputError(problem, file=file, record=place))
            continue
        broken = [column for column, value in zip(header, values, strict=True) if _broken(value)]
        for column in broken:
            faults.add(InputError("not UTF-8", file=file, record=place, field=column))
        if not broken:
            yield Row(name, place, number, dict(zip(header, values, strict=True)))


def _holds_rows(value: str, column: int, last: int) -> bool:
    """Whether a value has its lines' tabs where rows have them: in `.tsv` files many take a leading
    quotation mark for text, which nothing closes until another row has one.
    """
    first, *rest = re.split(r"\r\n?|\n", value)
    if not (last and rest):
        return False
    *inner, end = rest
    return (
        first.count("\t") == last - column
        and end.count("\t") == column
        and all(line.count("\t") == last for line in inner if line)
    )


def _lost(first: int, last: int) -> str:
    """What to say of a row at fault that takes up several lines."""
    if last <= first:
        return ""
    return f"; lines {first} to {last} are not read: a quotation mark that is not closed?"


def _broken(value: str) -> bool:
    return not is_unicode(value)
