"""Docstrings read: OpenAPI and the comments of config files say what the code says."""

from __future__ import annotations

import inspect
import re
from typing import Any

_ATTRIBUTE = re.compile(r"^    (\w+): (.*)$")


def describe(schema: dict[str, Any], model: type) -> None:
    """Fills a model's schema from its docstring: summary, attributes, and `EXAMPLE` if it has one.

    Args:
        schema: The schema, changed in place.
    """
    if text := _own(model).partition("\nAttributes:\n")[0]:
        schema["description"] = " ".join(text.replace("`", "").split())
    properties = schema.get("properties", {})
    for name, note in field_notes(model).items():
        if name in properties:
            properties[name]["description"] = note.replace("`", "")
    if (example := getattr(model, "EXAMPLE", None)) is not None:
        schema["examples"] = [example]


def summary(kind: type) -> str:
    """The first paragraph of a class's own docstring, on one line; empty if it has none."""
    return " ".join(_own(kind).split("\n\n")[0].split())


def field_notes(kind: type) -> dict[str, str]:
    """What the `Attributes:` sections of a class and of those it extends say of each field."""
    notes: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        name = ""
        for line in _own(each).partition("\nAttributes:\n")[2].splitlines():
            if match := _ATTRIBUTE.match(line):
                name, notes[match[1]] = match[1], match[2]
            elif name and line.startswith("        "):
                notes[name] += " " + line.strip()
            else:
                name = ""
    return notes


def _own(kind: type) -> str:
    return inspect.cleandoc(kind.__dict__.get("__doc__") or "")
