"""Docstrings as the descriptions of a JSON schema, so that OpenAPI says what the code says."""

from __future__ import annotations

import inspect
import re
from typing import Any

_ATTRIBUTE = re.compile(r"^    (\w+): (.*)$")


def describe(schema: dict[str, Any], model: type) -> None:
    """Fills a model's schema from its docstring: summary, attributes, and `EXAMPLE` if it has one.

    Args:
        schema: The schema, changed in place.
        model: The pydantic model.
    """
    summary, _, rest = inspect.cleandoc(model.__dict__.get("__doc__") or "").partition(
        "\nAttributes:\n"
    )
    if summary:
        schema["description"] = " ".join(summary.replace("`", "").split())
    properties = schema.get("properties", {})
    for name, text in _attributes(rest).items():
        if name in properties:
            properties[name]["description"] = text
    if (example := getattr(model, "EXAMPLE", None)) is not None:
        schema["examples"] = [example]


def _attributes(text: str) -> dict[str, str]:
    """The entries of a Google-style `Attributes:` section, each on one line."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if match := _ATTRIBUTE.match(line):
            name, found[match[1]] = match[1], match[2]
        elif name and line.startswith("        "):
            found[name] += " " + line.strip()
        else:
            name = ""
    return {name: text.replace("`", "") for name, text in found.items()}
