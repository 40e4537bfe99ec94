"""Reads pools in the Super-NaturalInstructions format: a folder with one JSON file per task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.errors import InputError
from engine.pools.checks import Checker, Faults, kind
from engine.pools.json_text import JsonError, parse_json
from engine.pools.parts import files_ending, refuse_packed
from engine.pools.unused import Watched, tell_unused
from engine.tasks import Example, Instance, Pool, Task

_ABOUT = frozenset(
    [
        *("Contributors", "Source", "URL", "Reasoning", "Domains", "Instance License", "Title"),
        *("Input_language", "Output_language", "Instruction_language", "id", "name"),
    ]
)
"""Keys of the format that say nothing to a model."""

_NONE = "-"
"""How the first Natural Instructions say that there is nothing."""

_NAMES = {
    "definition": "Definition",
    "instances": "Instances",
    "positive_examples": "Positive Examples",
    "negative_examples": "Negative Examples",
    "labels": "Labels",
    "outputs": "output",
}
"""The fields of a task, as the format calls them."""


def load_niv2(folder: Path) -> Pool:
    """All tasks of a folder, ordered by file name; the task id is the file name without `.json`.

    Raises:
        InputError: Naming file, record and field, if the folder or a file cannot be read as such.
    """
    if not folder.is_dir():
        raise InputError("no such folder", file=folder)
    files = task_files(folder)
    if not files:
        raise InputError("holds no .json files", file=folder)
    return Pool([load_niv2_task(file) for file in files], source=str(folder))


def load_niv2_task(file: Path) -> Task:
    """One task file.

    Raises:
        InputError: Naming file, record and field.
    """
    (task,) = read_niv2([file], Faults())
    return task


def task_files(folder: Path) -> list[Path]:
    """The task files of a folder, or of its folder `tasks`, ordered by name; none if it has none.

    Raises:
        InputError: If one is packed, see `engine.pools.parts`.
    """
    tasks = folder / "tasks"
    if tasks.is_dir():
        if files := files_ending(tasks, (".json",)):
            return files
        refuse_packed(tasks, (".json",))
    return files_ending(folder, (".json",)) if folder.is_dir() else []


def read_niv2(files: Sequence[Path], faults: Faults) -> Iterator[Task]:
    """The tasks of files, in order; files with a fault in them give none."""
    for file in files:
        task = _read_file(file, faults)
        if task is not None:
            yield task


def _read_file(file: Path, faults: Faults) -> Task | None:
    check = Checker(faults, file)
    try:
        raw = parse_json(file.read_bytes())
    except JsonError as error:
        check.fault(str(error))
    except OSError as error:
        check.fault(f"cannot be read: {error.strerror}")
    else:
        if isinstance(raw, dict):
            return parse_niv2(raw, check.identifier(file.stem, "id"), check)
        check.fault(f"expected a JSON object, found {kind(raw)}")
    return None


def parse_niv2(raw: dict[str, Any], task_id: str, check: Checker) -> Task | None:
    """The content of a task file as a task; None if a fault was told.

    The first Natural Instructions have their examples below `Examples`, with a `reason`.
    """
    raw = Watched(raw)
    instances = _list(raw, "Instances", check, task_id, None)
    definition = _definition(raw, check, task_id)
    below = raw.get("Examples")
    examples = raw if below in (None, _NONE) else check.mapping(below, "Examples")
    for name in ("Positive Examples", "Negative Examples"):
        if examples is not raw and raw.get(name):
            check.fault("stands beside Examples too", name, task_id)
    positive = _examples(examples, "Positive Examples", check, task_id)
    negative = _examples(examples, "Negative Examples", check, task_id)
    parsed = [_instance(row, index, check, task_id) for index, row in enumerate(instances)]
    category = _category(raw, check, task_id)
    # A field of our own, which files from elsewhere do not have.
    labels = [
        check.text(label, "Labels", task_id) for label in _list(raw, "Labels", check, task_id, [])
    ]
    tell_unused(raw, check, _ABOUT)
    if check.bad:
        return None
    task = Task(
        id=task_id,
        definition=definition,
        positive_examples=tuple(Example(input=i, output=o, explanation=e) for i, o, e in positive),
        negative_examples=tuple(Example(input=i, output=o, explanation=e) for i, o, e in negative),
        instances=tuple(Instance(id=name, input=i, outputs=o) for name, i, o in parsed),
        category=category,
        labels=tuple(labels),
    )
    check.task(task, _NAMES)
    return None if check.bad else task


def _definition(raw: Mapping[str, Any], check: Checker, task_id: str) -> str:
    value = raw.get("Definition")
    text = value[0] if isinstance(value, list) and value else value
    if isinstance(value, list) and len(value) > 1:
        check.note("of several definitions the first alone is used")
    return check.text(None if text == [] else text, "Definition", task_id)


def _examples(
    raw: Mapping[str, Any], field: str, check: Checker, task_id: str
) -> list[tuple[str, str, str]]:
    """Input, output and explanation of each example."""
    examples = []
    rows = [] if raw.get(field) == _NONE else _list(raw, field, check, task_id, [])
    for index, row in enumerate(rows):
        part = f"{field}[{index}]"
        if not isinstance(row, dict):
            check.mapping(row, part)
            continue
        row = Watched(row)
        output = row.get("output")
        if isinstance(output, list) and output:
            output = output[0]
        examples.append(
            (
                check.text(row.get("input"), "input", part),
                check.text(output, "output", part),
                check.string(row.get("explanation", row.get("reason", "")), "explanation", part),
            )
        )
        tell_unused(row, check, ("suggestion",), part)
    return examples


def _instance(
    row: Any, index: int, check: Checker, task_id: str
) -> tuple[str, str, tuple[str, ...]]:
    """Id, input and outputs of an instance."""
    part = f"Instances[{index}]"
    if not isinstance(row, dict):
        check.mapping(row, part)
        return "", "", ()
    row = Watched(row)
    outputs = row.get("output", [])
    if isinstance(outputs, str):
        outputs = [outputs]
    if not isinstance(outputs, list):
        problem = f"expected a text or a list of texts, found {kind(outputs)}"
        check.fault(problem, "output", part)
        outputs = []
    found = (
        check.identifier(row.get("id", f"{task_id}-{index}"), "id", part),
        check.text(row.get("input"), "input", part),
        tuple(check.string(output, "output", part) for output in outputs),
    )
    tell_unused(row, check, (), part)
    return found


def _category(raw: Mapping[str, Any], check: Checker, task_id: str) -> str | None:
    value = raw.get("Categories")
    if isinstance(value, list):
        if len(value) > 1:
            check.note("of several categories the first alone is used")
        value = value[0] if value else None
    return None if value is None else check.string(value, "Categories", task_id)


def _list(
    raw: Mapping[str, Any], field: str, check: Checker, task_id: str, default: list[Any] | None
) -> list[Any]:
    return check.items(raw.get(field, default), field, task_id)
