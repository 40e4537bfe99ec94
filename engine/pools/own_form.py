"""Records that hold a whole task: our own form, and that of Self-Instruct."""

from __future__ import annotations

from collections.abc import Iterator
from types import NoneType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from engine.pools.checks import Checker, kind
from engine.pools.options import Columns
from engine.pools.rows import Row
from engine.pools.unused import Watched, tell_unused
from engine.tasks import Example, Instance, Record, Task
from engine.unicode_text import NOT_UNICODE

_SECTIONS: dict[str, type[Record]] = {
    "positive_examples": Example,
    "negative_examples": Example,
    "instances": Instance,
}

_TEXTS = TypeAdapter(tuple[str, ...])


def parse_jostle(row: Row, _columns: Columns, check: Checker) -> Task | None:
    """A task in our own form, the fields of `engine.tasks.Task`; None if a fault was told."""
    values = _without_nulls(row.values, Task)
    try:
        task = Task.model_validate(values)
    except ValidationError as error:
        for wrong in _every_fault(values, error):
            field, part = _location(wrong["loc"])
            check.fault(_problem(wrong, part), field, part)
        return None
    check.task(task, {})
    return None if check.bad else task


def _every_fault(values: Any, error: ValidationError) -> Iterator[Any]:
    """What pydantic finds: of a list it tells the first fault, so each part is looked at alone."""
    yield from (wrong for wrong in error.errors() if len(wrong["loc"]) < 2)
    yield from _faults_of_texts(values, "labels")
    for name, section in _SECTIONS.items():
        parts = values.get(name) if isinstance(values, dict) else None
        for index, one in enumerate(parts if isinstance(parts, list) else ()):
            try:
                section.model_validate(one)
            except ValidationError as inner:
                own = (wrong for wrong in inner.errors() if len(wrong["loc"]) < 2)
                for wrong in (*own, *_faults_of_texts(one, "outputs")):
                    yield {**wrong, "loc": (name, index, *wrong["loc"])}


def _faults_of_texts(values: Any, name: str) -> Iterator[Any]:
    given = values.get(name) if isinstance(values, dict) else None
    if isinstance(given, list):
        try:
            _TEXTS.validate_python(given)
        except ValidationError as error:
            for wrong in error.errors():
                yield {**wrong, "loc": (name, *wrong["loc"])}


def _without_nulls(values: Any, schema: type[Record]) -> Any:
    """What is given of a record: a table has null where nothing is."""
    if not isinstance(values, dict):
        return values
    optional = {name for name, field in schema.model_fields.items() if not field.is_required()}
    given = {
        name: value for name, value in values.items() if value is not None or name not in optional
    }
    for name, section in _SECTIONS.items():
        if isinstance(given.get(name), list):
            given[name] = [_without_nulls(one, section) for one in given[name]]
    return given


def _location(location: tuple[int | str, ...]) -> tuple[str, str]:
    """Field and part of the record, from where pydantic found a fault."""
    names = [str(name) for name in location]
    if len(location) > 1 and isinstance(location[1], int):
        return ".".join(names[2:]), f"{names[0]}[{names[1]}]"
    return ".".join(names), ""


def _problem(wrong: Any, part: str) -> str:
    """The fault in the words that the other formats use."""
    sort = wrong["type"]
    if sort == "missing":
        return "missing"
    if sort == "string_too_short":
        return "empty"
    if sort == "string_unicode":
        return NOT_UNICODE
    if sort == "extra_forbidden":
        schema = _SECTIONS.get(part.partition("[")[0], Task)
        return f"unknown field; valid here: {', '.join(schema.model_fields)}"
    expected = {"string_type": "a text", "tuple_type": "a list", "model_type": "an object"}
    if sort in expected:
        return f"expected {expected[sort]}, found {kind(wrong['input'])}"
    return str(wrong["msg"]).removeprefix("Value error, ")


def parse_self_instruct(row: Row, columns: Columns, check: Checker) -> Task | None:
    """A task of Self-Instruct (Wang et al., ACL 2023); an instance's input may be empty.

    None if a fault was told.
    """
    values = Watched(row.values)
    definition_name = columns.definition or "instruction"
    task_id = check.identifier(values.get(columns.id or "id"), columns.id or "id")
    definition = check.text(values.get(definition_name), definition_name)
    rows = check.items(values.get("instances"), "instances")
    if not rows and isinstance(values.get("instances"), list):
        check.fault("a task needs at least one instance", "instances")
    instances = []
    for index, value in enumerate(rows):
        part = f"instances[{index}]"
        if not isinstance(value, dict):
            check.mapping(value, part)
            continue
        value = Watched(value)
        text = value.get("input")
        if text is None:
            check.fault("missing", "input", part)
            continue
        text = check.string(text, "input", part)
        outputs = check.outputs(value.get("output"), "output", part)
        tell_unused(value, check, (), part)
        instances.append((f"{task_id}-{index}", text, outputs))
    category = row_category(values, columns, check)
    classification = values.get("is_classification")
    if not isinstance(classification, (bool, NoneType)):
        found = f"expected true or false, found {kind(classification)}"
        check.fault(found, "is_classification")
    tell_unused(values, check, ("name",))
    if check.bad:
        return None
    return Task(
        id=task_id,
        definition=definition,
        instances=tuple(Instance(id=name, input=i, outputs=o) for name, i, o in instances),
        category=category,
        classification=classification,
    )


def row_category(values: dict[str, Any], columns: Columns, check: Checker) -> str | None:
    """The category, if the record has one. A column that the user named must be there."""
    name = columns.category or "category"
    value = values.get(name)
    if value is None or value == "":
        if columns.category is not None and name not in values:
            check.fault("missing", name)
        return None
    return check.name(value, name)
