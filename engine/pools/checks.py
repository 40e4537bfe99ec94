"""Checks of single values, and where the faults they find are told."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from engine.errors import InputError
from engine.tasks import Task, id_fault, task_faults
from engine.unicode_text import NOT_UNICODE, is_unicode

logger = logging.getLogger(__name__)

_PART = re.compile(r"(^(Instances|(Posi|Nega)tive Examples)|, [^,/]*\w)\[\d+\][^,/]*$")


class Faults:
    """Takes the faults that a reader finds; this one raises the first of them.

    Attributes:
        count: Faults taken so far.
        notes: What was noted, and of how many records.
    """

    def __init__(self) -> None:
        self.count = 0
        self.notes: Counter[str] = Counter()

    def add(self, fault: InputError) -> None:
        self.count += 1
        raise fault

    @property
    def found(self) -> tuple[InputError, ...]:
        """The faults of what was left out; none where nothing is."""
        return ()

    def note(self, phrase: str, file: object) -> None:
        """Take what is no fault of a record and yet worth knowing of a pool; it is logged once."""
        if phrase not in self.notes:
            logger.warning("%s: %s", file, phrase)
        self.notes[phrase] += 1


class LeftOut(Faults):
    """Keeps every fault, so that what has one is left out; a fault that comes again is the same.

    Args:
        known: Faults that were found before.
    """

    def __init__(self, known: Iterable[InputError] = ()) -> None:
        super().__init__()
        self._found = {str(fault): fault for fault in known}

    def add(self, fault: InputError) -> None:
        self._found.setdefault(str(fault), fault)
        self.count = len(self._found)

    @property
    def found(self) -> tuple[InputError, ...]:
        """All of them, in the order in which they came up."""
        return tuple(self._found.values())


class ToldFaults(Faults):
    """Passes every fault on, so that a reader goes through to the end.

    Args:
        tell: Called with each fault, in the order of the files.
    """

    def __init__(self, tell: Callable[[InputError], None]) -> None:
        super().__init__()
        self._tell = tell

    def note(self, phrase: str, file: object) -> None:
        self.notes[phrase] += 1

    def add(self, fault: InputError) -> None:
        self.count += 1
        self._tell(fault)


def count_records(faults: Iterable[InputError]) -> int:
    """How many records faults are of; parts of one, such as `line 3, instances[1]`, count once."""
    places = set()
    for fault in faults:
        record = _PART.sub("", fault.record or "")
        places.add((fault.file, "" if record == Path(fault.file or "").stem else record))
    return len(places)


class IgnoredFaults(Faults):
    """For a first look at a file whose faults a second reading will tell."""

    def add(self, fault: InputError) -> None:
        self.count += 1

    def note(self, phrase: str, file: object) -> None:
        pass


class Checker:
    """Checks the values of one record.

    Where a value is at fault, a check tells so and returns an empty value of the right type; a
    record whose checker is `bad` in the end must not become a task.

    Args:
        record: The record: a line, a row, a task id.

    Attributes:
        bad: Whether a fault was found.
    """

    __slots__ = ("_noted", "bad", "faults", "file", "record")

    def __init__(self, faults: Faults, file: object, record: str | None = None) -> None:
        self.faults = faults
        self.file = file
        self.record = record
        self.bad = False
        self._noted: set[str] = set()

    def fault(self, problem: str, field: str | None = None, part: str | None = None) -> None:
        """Tell a fault; `part` names a part of the record, such as `instances[3]`."""
        self.bad = True
        self.faults.add(
            InputError(problem, file=self.file, record=self._name(part), field=field or None)
        )

    def note(self, phrase: str) -> None:
        """Note what is no fault of the record, once."""
        if phrase not in self._noted:
            self._noted.add(phrase)
            self.faults.note(phrase, self.file)

    def _name(self, part: str | None) -> str | None:
        return ", ".join(name for name in (self.record, part) if name) or None

    def text(self, value: Any, field: str, part: str | None = None) -> str:
        """A text with something in it."""
        if value is None:
            self.fault("missing", field, part)
            return ""
        text = self.string(value, field, part)
        if isinstance(value, str) and not value.strip():
            self.fault("empty", field, part)
        return text

    def string(self, value: Any, field: str, part: str | None = None) -> str:
        """A text, which may be empty."""
        if not isinstance(value, str):
            self.fault(f"expected a text, found {kind(value)}", field, part)
            return ""
        if not is_unicode(value):
            # JSON can spell it; it cannot be sent or tokenised.
            self.fault(NOT_UNICODE, field, part)
        return value

    def items(self, value: Any, field: str, part: str | None = None) -> list[Any]:
        if value is None:
            self.fault("missing", field, part)
            return []
        if not isinstance(value, list):
            self.fault(f"expected a list, found {kind(value)}", field, part)
            return []
        return value

    def mapping(self, value: Any, part: str | None = None) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.fault(f"expected an object, found {kind(value)}", None, part)
            return {}
        return value

    def name(self, value: Any, field: str, part: str | None = None) -> str:
        """What names a thing: a text, a number, or true or false; never empty."""
        if isinstance(value, bool):
            return str(value).lower()
        return self.text(str(value) if isinstance(value, int) else value, field, part)

    def identifier(self, value: Any, field: str, part: str | None = None) -> str:
        """An id of a task or an instance: a name that can stand on a line of a list."""
        name = self.name(value, field, part)
        problem = id_fault(name)
        if problem and problem != "empty":
            self.fault(problem, field, part)
        return name

    def outputs(self, value: Any, field: str, part: str | None = None) -> tuple[str, ...]:
        """Gold outputs: a text or a list of texts. An empty text stands for no gold output."""
        if value is None:
            self.fault("missing", field, part)
            return ()
        if isinstance(value, str):
            return (self.string(value, field, part),) if value.strip() else ()
        if not isinstance(value, list):
            self.fault(f"expected a text or a list of texts, found {kind(value)}", field, part)
            return ()
        return tuple(self.string(output, field, part) for output in value)

    def task(self, task: Task, names: Mapping[str, str]) -> None:
        """That a task has none of `engine.tasks.task_faults`.

        Args:
            names: What its fields are called in the record, where they have other names.
        """
        for problem, field, part in task_faults(task):
            section, bracket, index = part.partition("[")
            part = names.get(section, section) + bracket + index
            self.fault(problem, names.get(field, field), part)


def kind(value: Any) -> str:
    """What a value of JSON, or of a table, is, for messages."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    names |= {int: "a number", float: "a number", type(None): "null"}
    return names.get(type(value), f"a {type(value).__name__}")
