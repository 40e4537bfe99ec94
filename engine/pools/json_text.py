"""JSON of users' files: everything that can be wrong with it is one kind of error."""

from __future__ import annotations

import json
from typing import Any

from engine.unicode_text import not_utf8, other_encoding


class JsonError(ValueError):
    """The text is no JSON, or no program could read it the same way twice."""


def parse_json(raw: bytes, *, one_line: bool = False) -> Any:
    """The value of a JSON text in UTF-8.

    Args:
        raw: The text; a byte order mark before it is passed over.
        one_line: Whether it is one line, so that a place in it is its column.

    Raises:
        JsonError: If it cannot be read; it says where, as far as that is known.
    """
    try:
        return _DECODER.decode(raw.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        line = "" if one_line else f"line {error.lineno}, "
        problem = f"not JSON: {error.msg.removesuffix(' at')} at {line}column {error.colno}"
        problem = other_encoding(raw) or problem
    except UnicodeDecodeError as error:
        problem = not_utf8(error)
    except RecursionError:
        problem = "not JSON: nested too deeply"
    raise JsonError(problem)


def _whole_number(digits: str) -> int:
    try:
        return int(digits)
    except ValueError:  # a limit of Python's, for reading these takes quadratic time
        raise JsonError(f"holds a number of {len(digits):,} digits") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise JsonError(f"an object holds the key {twice!r} twice")
    return found


def parse_at(text: str, position: int) -> tuple[Any, int]:
    """The value that begins there, and where it ends; a `JsonError` in the place of one that is
    whole and cannot be used, so that reading goes on behind it.

    Raises:
        json.JSONDecodeError: If there is none, or it is cut off.
    """
    try:
        return _DECODER.raw_decode(text, position)
    except JsonError as error:
        return error, _BOUNDS.raw_decode(text, position)[1]


_DECODER = json.JSONDecoder(parse_int=_whole_number, object_pairs_hook=_object)
"""Refuses keys that are there twice, of which Python's own keeps the last."""

_BOUNDS = json.JSONDecoder(parse_int=len)
"""For where a value ends."""
