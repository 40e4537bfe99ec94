"""Records as they travel: as JSON, which has no form for half a surrogate pair."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pydantic_core import PydanticSerializationError

from engine.errors import InputError
from engine.protocol.api import SkippedTask
from engine.tasks import Record, Task, unicode_faults
from engine.unicode_text import NOT_UNICODE, is_unicode


def as_json(record: Record, name: str | None = None, *, exclude_none: bool = False) -> str:
    """A record as JSON.

    Args:
        name: What errors call it.

    Raises:
        InputError: If a text in it is not Unicode; its field is named.
    """
    try:
        return record.model_dump_json(exclude_none=exclude_none)
    except PydanticSerializationError as error:
        place = next(_not_unicode(record.model_dump()), None)
        if place is None:
            raise
        raise InputError(NOT_UNICODE, record=name, field=place) from error


def sendable_tasks(
    tasks: Iterable[Task], on_skip: Callable[[SkippedTask], None] | None
) -> Iterator[Task]:
    """The tasks whose texts can be sent.

    Args:
        on_skip: Takes the others; without it, such a task is an error.

    Raises:
        InputError: Naming the task and the field.
    """
    for task in tasks:
        fault = next(unicode_faults(task), None)
        if fault is None:
            yield task
        elif on_skip is None:
            raise fault.error(task.id)
        else:
            on_skip(SkippedTask.because(task.id, fault.error(task.id)))


def _not_unicode(value: Any, place: str = "") -> Iterator[str]:
    """Places in nested values of the texts that are not Unicode."""
    if isinstance(value, str):
        if not is_unicode(value):
            yield place
    elif isinstance(value, dict):
        for name, each in value.items():
            if not is_unicode(str(name)):
                yield f"{place}.{name!a}"
            yield from _not_unicode(each, f"{place}.{name}" if place else str(name))
    elif isinstance(value, list | tuple):
        for index, each in enumerate(value):
            yield from _not_unicode(each, f"{place}[{index}]")
