"""Reads pools in the Super-NaturalInstructions format: a folder with one JSON file per task."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.errors import InputError
from engine.tasks import Example, Instance, Pool, Task


def load_niv2(folder: Path) -> Pool:
    """All tasks of a folder, ordered by file name; the task id is the file name without `.json`.

    Raises:
        InputError: Naming file, record and field, if the folder or a file cannot be read as such.
    """
    if not folder.is_dir():
        raise InputError("no such folder", file=folder)
    files = sorted(folder.glob("*.json"))
    if not files:
        raise InputError("holds no .json files", file=folder)
    return Pool([load_niv2_task(file) for file in files], source=str(folder))


def load_niv2_task(file: Path) -> Task:
    """One task file.

    Raises:
        InputError: Naming file, record and field.
    """
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(
            f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}", file=file
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8: byte {error.start} cannot be read", file=file) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=file) from error
    if not isinstance(raw, dict):
        raise InputError(f"expected a JSON object, found {_kind(raw)}", file=file)
    instances = _list(raw, "Instances", file, None)
    if not instances:
        raise InputError("a task needs at least one instance", file=file, field="Instances")
    return Task(
        id=file.stem,
        definition=_definition(raw, file),
        positive_examples=_examples(raw, "Positive Examples", file),
        negative_examples=_examples(raw, "Negative Examples", file),
        instances=tuple(_instance(row, index, file) for index, row in enumerate(instances)),
        category=_category(raw, file),
    )


def _definition(raw: Mapping[str, Any], file: Path) -> str:
    value = raw.get("Definition")
    text = value[0] if isinstance(value, list) and value else value
    if text is None or text == []:
        raise InputError("missing", file=file, record=file.stem, field="Definition")
    return _text(text, "Definition", file, file.stem)


def _examples(raw: Mapping[str, Any], field: str, file: Path) -> tuple[Example, ...]:
    examples = []
    for index, row in enumerate(_list(raw, field, file, [])):
        record = f"{field}[{index}]"
        if not isinstance(row, dict):
            raise InputError(f"expected an object, found {_kind(row)}", file=file, record=record)
        output = row.get("output")
        if isinstance(output, list) and output:
            output = output[0]
        examples.append(
            Example(
                input=_text(row.get("input"), "input", file, record),
                output=_text(output, "output", file, record),
                explanation=_string(row.get("explanation", ""), "explanation", file, record),
            )
        )
    return tuple(examples)


def _instance(row: Any, index: int, file: Path) -> Instance:
    record = f"Instances[{index}]"
    if not isinstance(row, dict):
        raise InputError(f"expected an object, found {_kind(row)}", file=file, record=record)
    outputs = row.get("output", [])
    if isinstance(outputs, str):
        outputs = [outputs]
    if not isinstance(outputs, list):
        raise InputError(
            f"expected a text or a list of texts, found {_kind(outputs)}",
            file=file,
            record=record,
            field="output",
        )
    identifier = row.get("id", f"{file.stem}-{index}")
    return Instance(
        id=_text(identifier, "id", file, record),
        input=_text(row.get("input"), "input", file, record),
        outputs=tuple(_string(output, "output", file, record) for output in outputs),
    )


def _category(raw: Mapping[str, Any], file: Path) -> str | None:
    value = raw.get("Categories")
    if isinstance(value, list):
        value = value[0] if value else None
    return None if value is None else _string(value, "Categories", file, file.stem)


def _list(raw: Mapping[str, Any], field: str, file: Path, default: list[Any] | None) -> list[Any]:
    value = raw.get(field, default)
    if value is None:
        raise InputError("missing", file=file, record=file.stem, field=field)
    if not isinstance(value, list):
        raise InputError(
            f"expected a list, found {_kind(value)}", file=file, record=file.stem, field=field
        )
    return value


def _text(value: Any, field: str, file: Path, record: str) -> str:
    """A text with something in it."""
    if value is None:
        raise InputError("missing", file=file, record=record, field=field)
    text = _string(value, field, file, record)
    if not text.strip():
        raise InputError("empty", file=file, record=record, field=field)
    return text


def _string(value: Any, field: str, file: Path, record: str) -> str:
    if not isinstance(value, str):
        raise InputError(
            f"expected a text, found {_kind(value)}", file=file, record=record, field=field
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:  # JSON can spell it; it cannot be sent or tokenised
        raise InputError(
            "not Unicode: holds half a surrogate pair", file=file, record=record, field=field
        ) from error
    return value


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    return "null" if value is None else names.get(type(value), "a number")
