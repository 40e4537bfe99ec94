"""The columns of the input that the output keeps, as Parquet and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

from engine.errors import InputError
from engine.pools.rows import Row
from engine.unicode_text import is_unicode

_Path = tuple[str | None, ...]
"""From a column into what it holds: names of fields, and None into a list."""

_LOOKED_AT = 1_000  # rows that are typed at once
_EXACT = 2**53  # as far as a double holds every integer


class KeptColumns:
    """Names of all columns in the order in which they come up, and what they hold.

    Args:
        typed: Whether their types are needed.

    Attributes:
        names: The names.
    """

    def __init__(self, *, typed: bool) -> None:
        self.names: dict[str, None] = {}
        self._typed = typed
        self._waiting: list[dict[str, Any]] = []
        self._schema: Any = None
        self._known: Any = None
        self._large: set[_Path] = set()

    def see(self, row: Row, schema: Any = None) -> None:
        """Take a row.

        Args:
            schema: The `pyarrow.Schema` of its file, where that has one.

        Raises:
            InputError: If a column holds values of several kinds; or, where there are no types,
                the row cannot be spelled as JSON.
        """
        self.names.update(dict.fromkeys(row.values))
        if self._typed and schema is not None:
            if schema is not self._known:
                self._unify(schema, row.file)
                self._known = schema
        elif self._typed:
            self._waiting.append(row.values)
            if len(self._waiting) >= _LOOKED_AT:
                self._type_those_that_wait(row.file)
        else:
            json_line(row.values, row.file, row.place)

    def _type_those_that_wait(self, file: str) -> None:
        import pyarrow as pa  # type: ignore[import-untyped]

        types = {}
        for name in {name: None for values in self._waiting for name in values}:
            cells = [values.get(name) for values in self._waiting]
            try:
                types[name] = pa.array(cells).type
            except unfit() as error:
                raise fits_none(error, file, name) from error
            self._large |= {(name, *path) for path in _large_integers(types[name], cells)}
        self._unify(pa.schema(list(types.items())), file)
        self._waiting = []

    def _unify(self, seen: Any, file: str) -> None:
        import pyarrow as pa

        before = [] if self._schema is None else [self._schema]
        try:
            self._schema = pa.unify_schemas([*before, seen], promote_options="permissive")
        except pa.ArrowException as error:
            raise fits_none(error, file) from error
        for name, *path in self._large:
            if pa.types.is_floating(_type_at(self._schema.field(name).type, path)):
                reason = "it holds fractions, and integers that are too large beside such"
                raise fits_none(reason, file, name)

    def schema(self, file: str) -> Any:
        """The columns as a `pyarrow.Schema`.

        Raises:
            InputError: If a column holds values of several kinds; of the file that is named.
        """
        if self._waiting:
            self._type_those_that_wait(file)
        return self._schema


def _large_integers(kind: Any, cells: Iterable[Any]) -> Iterator[_Path]:
    """Where values of a `pyarrow` type hold integers that not every double can stand for."""
    import pyarrow as pa

    if "int" not in str(kind):
        return
    there = [cell for cell in cells if cell is not None]
    if pa.types.is_integer(kind):
        if any(abs(cell) > _EXACT for cell in there):
            yield ()
    elif pa.types.is_struct(kind):
        for part in kind:
            for path in _large_integers(part.type, [cell.get(part.name) for cell in there]):
                yield (part.name, *path)
    elif pa.types.is_list(kind):
        for path in _large_integers(kind.value_type, [each for cell in there for each in cell]):
            yield (None, *path)


def _type_at(kind: Any, path: Iterable[str | None]) -> Any:
    for step in path:
        kind = kind.value_type if step is None else kind.field(step).type
    return kind


def unfit() -> tuple[type[Exception], ...]:
    """What pyarrow raises of values that a column cannot hold."""
    import pyarrow as pa

    return pa.ArrowException, OverflowError, UnicodeError


def fits_none(error: object, file: str, column: str | None = None) -> InputError:
    """The error of values that no column of a Parquet file can hold."""
    reason = " ".join(str(error).split())
    problem = f"fits no column of a .parquet file, write .jsonl instead ({reason})"
    return InputError(problem, file=file, field=column)


def json_line(values: dict[str, Any], file: object, record: str | None = None) -> str:
    """A row as a line of JSON, times as ISO 8601 has them.

    Raises:
        InputError: If a column holds what JSON has no form for: bytes, NaN.
    """
    try:
        line = json.dumps(values, ensure_ascii=False, allow_nan=False, default=_spelled)
        if not is_unicode(line):  # half a surrogate pair, which JSON can spell and UTF-8 cannot
            line = json.dumps(values, allow_nan=False, default=_spelled)
    except (TypeError, ValueError) as error:
        problem = f"cannot be spelled as JSON, write .parquet instead ({error})"
        raise InputError(problem, file=file, record=record) from error
    return f"{line}\n"


def _spelled(value: Any) -> str:
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal | timedelta):
        return str(value)
    raise TypeError(f"found {type(value).__name__}")
