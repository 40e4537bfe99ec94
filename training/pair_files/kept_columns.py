"""The columns of the input that the output keeps, as Parquet and as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

from engine.errors import InputError
from engine.pools.rows import Row
from engine.unicode_text import is_unicode

_Path = tuple[str | None, ...]
"""From a column into what it holds: names of fields, and None into a list."""

_LOOKED_AT = 1_000  # rows that are typed at once
_BOUNDED = re.compile("int|decimal|timestamp")  # the types, some of whose values do not fit others


class KeptColumns:
    """Names of all columns in the order in which they come up, and what they hold.

    Args:
        typed: Whether their types are needed.

    Attributes:
        names: The names, and the first file that has each.
    """

    def __init__(self, *, typed: bool) -> None:
        self.names: dict[str, str] = {}
        self._typed = typed
        self._waiting: list[Row] = []  # of one file, whose schema is:
        self._known: Any = None
        self._schema: Any = None
        self._ends: dict[_Path, tuple[Any, Any]] = {}

    def see(self, row: Row, schema: Any = None) -> None:
        """Take a row.

        Args:
            schema: The `pyarrow.Schema` of its file, where that has one.

        Raises:
            InputError: If a column holds values of several kinds; or, where there are no types,
                the row cannot be spelled as JSON.
        """
        for name in row.values:
            self.names.setdefault(name, row.file)
        if not self._typed:
            json_line(row.values, row.file, row.place)
            return
        if self._waiting and row.file != self._waiting[0].file:
            self._type_those_that_wait()
        self._known = schema
        self._waiting.append(row)
        if len(self._waiting) >= _LOOKED_AT:
            self._type_those_that_wait()

    def _type_those_that_wait(self) -> None:
        import pyarrow as pa  # type: ignore[import-untyped]

        file = self._waiting[0].file
        rows = [row.values for row in self._waiting]
        seen = _schema_of(rows, file) if self._known is None else _nullable(self._known)
        before = [] if self._schema is None else [self._schema]
        try:
            self._schema = pa.unify_schemas([*before, seen], promote_options="permissive")
        except pa.ArrowException as error:
            raise fits_none(error, file) from error
        for field in seen:
            for path, *ends in _ends(field.type, [values.get(field.name) for values in rows]):
                place = (field.name, *path)
                ends += self._ends.get(place, ())
                self._ends[place] = min(ends), max(ends)
        self._check_ends(file)
        self._waiting = []

    def _check_ends(self, file: str) -> None:
        """That what was seen of each column fits the type that it has by now."""
        import pyarrow as pa

        for (name, *path), (least, most) in self._ends.items():
            kind = _type_at(self._schema.field(name).type, path)
            try:
                pa.array([least, most], kind)
            except unfit() as error:
                reason = f"as a whole it is {kind}, which not all from {least} to {most} fit"
                raise fits_none(reason, file, name) from error

    def schema(self) -> Any:
        """The columns as a `pyarrow.Schema`.

        Raises:
            InputError: If a column holds values of several kinds.
        """
        if self._waiting:
            self._type_those_that_wait()
        return self._schema


def _nullable(kind: Any) -> Any:
    """A `pyarrow` schema or type whose columns may all be missing: another file may lack them."""
    import pyarrow as pa

    if isinstance(kind, pa.ListType):
        return pa.list_(_nullable(kind.value_type))
    if not isinstance(kind, pa.Schema | pa.StructType):
        return kind
    fields = [each.with_type(_nullable(each.type)).with_nullable(True) for each in kind]
    return pa.struct(fields) if isinstance(kind, pa.StructType) else pa.schema(fields)


def _schema_of(rows: Sequence[dict[str, Any]], file: str) -> Any:
    import pyarrow as pa

    fields = []
    for name in {name: None for values in rows for name in values}:
        try:
            fields.append(pa.field(name, pa.array([values.get(name) for values in rows]).type))
        except unfit() as error:
            raise fits_none(error, file, name) from error
    return pa.schema(fields)


def _ends(kind: Any, cells: Iterable[Any]) -> Iterator[tuple[_Path, Any, Any]]:
    """The least and the most of what other types may not hold, and where in a `pyarrow` type."""
    import pyarrow as pa

    there = [cell for cell in cells if cell is not None]
    if not there or not _BOUNDED.search(str(kind)):
        return
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind) or pa.types.is_timestamp(kind):
        yield (), min(there), max(there)
    elif pa.types.is_struct(kind):
        for part in kind:
            for path, *ends in _ends(part.type, [cell.get(part.name) for cell in there]):
                yield (part.name, *path), *ends
    elif isinstance(kind, pa.ListType | pa.LargeListType | pa.FixedSizeListType):
        for path, *ends in _ends(kind.value_type, [each for cell in there for each in cell]):
            yield (None, *path), *ends


def _type_at(kind: Any, path: Iterable[str | None]) -> Any:
    for step in path:
        kind = kind.value_type if step is None else kind.field(step).type
    return kind


def unfit() -> tuple[type[Exception], ...]:
    """What pyarrow raises of values that a column cannot hold."""
    import pyarrow as pa

    return pa.ArrowException, OverflowError, UnicodeError


def fits_none(error: object, file: str | None, column: str | None = None) -> InputError:
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
