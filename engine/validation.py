"""What pydantic found wrong, as `engine.errors.InputError` says it."""

from __future__ import annotations

from pydantic import ValidationError

from engine.errors import InputError


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
