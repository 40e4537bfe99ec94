"""Rows of `.json` files, in the forms that programs write them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from engine.errors import InputError
from engine.pools.checks import Faults, kind
from engine.pools.json_array import first_value, read_json_array
from engine.pools.json_text import JsonError
from engine.pools.rows import Row, read_jsonl
from engine.unicode_text import file_encoding


def read_json(file: Path, faults: Faults) -> Iterator[Row]:
    """Rows of a JSON file. What follows a syntax error is not read.

    It may be an array of objects, read one at a time; JSON Lines; an object that holds such an
    array under some name, as in `{"data": [...]}`; one that holds columns, as lists of one length
    or as pandas writes them, `{"output": {"0": ...}}`; or a single record.
    """
    try:
        if problem := file_encoding(file):
            faults.add(InputError(problem, file=file))
            return
        value, alone = first_value(file)
        if not alone:
            yield from read_jsonl(file, faults)
            return
        entries: Iterable[Any] = read_json_array(file) if value == [] else _entries(value)
        for number, entry in enumerate(entries, start=1):
            place = f"entry {number}"
            if isinstance(entry, dict):
                yield Row(str(file), place, number, entry)
            else:
                is_fault = isinstance(entry, JsonError)
                problem = str(entry) if is_fault else f"expected a JSON object, found {kind(entry)}"
                faults.add(InputError(problem, file=file, record=place))
    except JsonError as error:
        faults.add(InputError(f"{error}; what follows is not read", file=file))
    except UnicodeDecodeError as error:
        faults.add(InputError(f"not UTF-8: {error.reason}; what follows is not read", file=file))
    except OSError as error:
        faults.add(InputError(f"cannot be read: {error.strerror}", file=file))


def holds_task(file: Path) -> bool | None:
    """Whether a file is one task of (Super-)NaturalInstructions; None if it cannot be read."""
    try:
        value, alone = first_value(file)
    except (JsonError, OSError, UnicodeDecodeError):
        return None
    if isinstance(value, JsonError):
        return None
    return alone and isinstance(value, dict) and not value.keys().isdisjoint(_TASK_KEYS)


_TASK_KEYS = ("Definition", "Instances")
_OF_A_RECORD = ("messages", "conversations", "instances", "prompt", "completion")
"""Lists of objects that are a part of a single record."""


def _entries(value: Any) -> list[Any]:
    """The records that one JSON value holds."""
    if not isinstance(value, dict) or not value:
        return [value]
    columns = _columns(value)
    if columns:
        names = list(value)
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    lists = [
        name
        for name, part in value.items()
        if name not in _OF_A_RECORD
        and isinstance(part, list)
        and part
        and all(isinstance(one, dict) for one in part)
    ]
    if not lists or "Definition" in value or "definition" in value:
        return [value]
    if len(lists) > 1:
        names = [repr(name) for name in lists]
        raise JsonError(f"holds several lists, {', '.join(names)}; write one of them to a file")
    return list(value[lists[0]])


def _columns(value: dict[str, Any]) -> list[list[Any]]:
    """The columns of an object that is a table; none if it is not."""
    first = next(iter(value.values()))
    parts = [
        list(part.values()) if isinstance(part, dict) and _is_numbered(part, first) else part
        for part in value.values()
    ]
    lists = [part for part in parts if isinstance(part, list)]
    if len(lists) < len(parts) or len({len(part) for part in lists}) != 1 or not lists[0]:
        return []
    # A list of objects is one of records, or of the messages of one.
    return [] if any(isinstance(part[0], dict) for part in lists) else lists


def _is_numbered(part: dict[str, Any], first: Any) -> bool:
    """Whether pandas wrote it: row numbers in the place of names, those of the first column."""
    return all(name.isdigit() for name in part) and isinstance(first, dict) and [*part] == [*first]
