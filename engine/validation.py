"""What pydantic found wrong, as `engine.errors.InputError` says it."""

from __future__ import annotations

from types import UnionType
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from engine.errors import InputError

_M = TypeVar("_M", bound=BaseModel)


def validated(kind: type[_M], values: dict[str, Any], source: object | None = None) -> _M:
    """A config from nested values.

    Args:
        source: The file they came from, for messages.

    Raises:
        InputError: With the field; for an unknown key also the valid ones.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problem, field = first_fault(error)
        first = error.errors()[0]
        if first["type"] == "extra_forbidden" and (valid := _keys(kind, first["loc"][:-1])):
            problem = f"unknown key; valid here: {', '.join(sorted(valid))}"
        raise InputError(problem, file=source, field=field) from error


def _keys(section: Any, location: tuple[int | str, ...]) -> list[str]:
    """Names of the fields of a section; none where pydantic's way to it is not that of fields."""
    for part in location:
        field = getattr(section, "model_fields", {}).get(str(part))
        section = None if field is None else field.annotation
        if isinstance(section, UnionType):
            section = next(each for each in get_args(section) if each is not type(None))
    return [*getattr(section, "model_fields", {})]


def first_fault(error: ValidationError) -> tuple[str, str | None]:
    """The first problem in words, and the field it is in, dotted; None for the record itself.

    An `InputError` that a validator raised keeps its own words, its field below the outer one.
    """
    first = error.errors()[0]
    names = [str(part) for part in first["loc"]]
    problem = first["msg"].removeprefix("Value error, ")
    inner = first.get("ctx", {}).get("error")
    if isinstance(inner, InputError):
        problem = inner.problem
        names += [inner.field] if inner.field else []
    return problem, ".".join(names) or None
