"""Reading what the command line is given in files."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from engine.errors import InputError

if TYPE_CHECKING:
    from pydantic import BaseModel

    _M = TypeVar("_M", bound=BaseModel)


def parse_settings(words: list[str]) -> dict[str, Any]:
    """Settings from `KEY=VALUE` words; a dot in the key goes a level down.

    The value is a TOML value, or else taken as text: `share=0.5`, `direction=low`,
    `shares.easy=0.2`.

    Raises:
        InputError: If a word is none of these.
    """
    values: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not (key and equals):
            raise InputError(f"expected KEY=VALUE, found {word!r}", field="set")
        *above, last = key.split(".")
        level = values
        for name in above:
            level = level.setdefault(name, {})
            if not isinstance(level, dict):
                raise InputError(f"{name!r} is given a value and settings", field="set")
        level[last] = _value(text)
    return values


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def validate(kind: type[_M], values: dict[str, Any], file: Path | None) -> _M:
    """A config from nested values.

    Raises:
        InputError: With the field; for an unknown key also the valid ones.
    """
    from pydantic import BaseModel, ValidationError

    from engine.validation import first_fault

    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        problem, field = first_fault(error)
        section: Any = kind
        for part in first["loc"][:-1]:
            inside = getattr(section, "model_fields", {}).get(str(part))
            section = None if inside is None else inside.annotation
        known = isinstance(section, type) and issubclass(section, BaseModel)
        if first["type"] == "extra_forbidden" and known:
            problem = f"unknown key; valid here: {', '.join(sorted(section.model_fields))}"
        raise InputError(problem, file=file, field=field) from error
