"""What may go wrong in a Jinja template, whoever has written it."""

from __future__ import annotations

from jinja2 import TemplateError

TEMPLATE_FAULTS = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""What compiling and rendering can raise: Jinja's own errors, and those of a template's operations.
A template too deeply nested is a RecursionError, a SyntaxError or a MemoryError of the compiler.
"""


def described(error: Exception) -> str:
    """The fault as a phrase, with its kind where that is not Jinja's: a KeyError says the key."""
    said = " ".join(str(error).split())
    if isinstance(error, TemplateError) and said:
        return said
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
