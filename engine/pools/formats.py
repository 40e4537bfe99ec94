"""The formats of records, and how one is told from another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from engine.errors import InputError
from engine.pools.checks import Checker
from engine.pools.instances import (
    RowParts,
    parse_alpaca,
    parse_chat,
    parse_prompt_completion,
    place_id,
)
from engine.pools.niv2 import parse_niv2
from engine.pools.options import Columns
from engine.pools.own_form import parse_jostle, parse_self_instruct
from engine.pools.rows import Row
from engine.registry import Registry
from engine.tasks import Task

NIV2 = "super_natural_instructions"


@dataclass(frozen=True)
class TaskFormat:
    """A record is a whole task.

    Attributes:
        name: What it is called.
        keys: The keys by which it is known.
        parse: Makes a task of a record; none if it told a fault.
    """

    name: str
    keys: Callable[[Columns], tuple[str, ...]]
    parse: Callable[[Row, Columns, Checker], Task | None]


@dataclass(frozen=True)
class InstanceFormat:
    """A record is one instance; a column says of which task, or each is a task of its own.

    Attributes:
        name: What it is called.
        keys: The keys by which it is known.
        parse: Takes a record apart.
        task_column: The column that groups records unless the user names another.
    """

    name: str
    keys: Callable[[Columns], tuple[str, ...]]
    parse: Callable[[Row, Columns, Checker], RowParts]
    task_column: str | None


Format = TaskFormat | InstanceFormat


def _parse_niv2_row(row: Row, _columns: Columns, check: Checker) -> Task | None:
    field = "name" if "id" not in row.values and "name" in row.values else "id"
    task_id = check.identifier(row.values.get(field, place_id(row)), field)
    return parse_niv2(row.values, task_id, check)


_OURS: tuple[Format, ...] = (
    TaskFormat(
        NIV2,
        lambda columns: ("Definition", "Instances"),
        _parse_niv2_row,
    ),
    TaskFormat(
        "self_instruct",
        lambda columns: (columns.definition or "instruction", "instances"),
        parse_self_instruct,
    ),
    InstanceFormat(
        "alpaca",
        lambda columns: (columns.definition or "instruction", columns.output or "output"),
        parse_alpaca,
        None,
    ),
    InstanceFormat(
        "prompt_completion",
        lambda columns: (columns.input or "prompt", columns.output or "completion"),
        parse_prompt_completion,
        "task",
    ),
    InstanceFormat(
        "chat",
        lambda columns: (columns.messages or "messages",),
        parse_chat,
        "task",
    ),
    TaskFormat(
        "jostle",
        lambda columns: ("definition", "instances"),
        parse_jostle,
    ),
)

FORMATS: Registry[Format] = Registry(
    "format", "jostle.formats", (TaskFormat, InstanceFormat), lambda: _OURS
)
"""All formats, by name."""


def detect_format(rows: Iterable[Row], columns: Columns, source: str) -> Format:
    """The one format that the keys of some rows show.

    Raises:
        InputError: If they show none or more than one; it lists the formats.
    """
    found: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for row in rows:
        seen.update(row.values.keys())
        found.update(name for name in FORMATS if _shows(name, row, columns))
    if len(found) == 1:
        return FORMATS[next(iter(found))]
    if found:
        raise InputError(
            f"ambiguous: its records have the keys of {' and of '.join(sorted(found))}; name the "
            f"format, one of {', '.join(FORMATS)}",
            file=source,
            field="format",
        )
    if not seen:
        raise InputError(
            "no record can be read, so the format cannot be told; name it, one of "
            f"{', '.join(FORMATS)}",
            file=source,
            field="format",
        )
    forms = "; ".join(f"{form.name} ({', '.join(form.keys(columns))})" for form in FORMATS.values())
    raise InputError(
        f"unknown format: its records have the keys {', '.join(map(repr, list(seen)[:12]))}. Valid "
        f"formats and the keys they need: {forms}. If yours have other names, name the columns",
        file=source,
        field="format",
    )


def _shows(name: str, row: Row, columns: Columns) -> bool:
    keys = FORMATS[name].keys(columns)
    if name == "chat" and columns.messages is None and "conversations" in row.values:
        return True
    return all(key in row.values for key in keys)
