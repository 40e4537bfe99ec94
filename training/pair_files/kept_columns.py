"""The columns of the input that the output keeps, and their types where it is Parquet."""

from __future__ import annotations

from typing import Any

from engine.errors import InputError
from engine.pools.rows import Row

_LOOKED_AT = 1_000  # rows that are typed at once


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

    def see(self, row: Row) -> None:
        """Take a row.

        Raises:
            InputError: If a column holds values of several kinds.
        """
        self.names.update(dict.fromkeys(row.values))
        if self._typed:
            self._waiting.append(row.values)
            if len(self._waiting) >= _LOOKED_AT:
                self._type_those_that_wait(row.file)

    def _type_those_that_wait(self, file: str) -> None:
        import pyarrow as pa  # type: ignore[import-untyped]

        name = None
        try:
            types = {}
            for name in self.names:
                types[name] = pa.array([values.get(name) for values in self._waiting]).type
            name = None
            seen = pa.schema(list(types.items()))
            before = [] if self._schema is None else [self._schema]
            self._schema = pa.unify_schemas([*before, seen], promote_options="permissive")
        except (pa.ArrowException, OverflowError, UnicodeError) as error:
            reason = " ".join(str(error).split())
            problem = f"fits no column of a .parquet file, write .jsonl instead ({reason})"
            raise InputError(problem, file=file, field=name) from error
        self._waiting = []

    def schema(self, file: str) -> Any:
        """The columns as a `pyarrow.Schema`.

        Raises:
            InputError: If a column holds values of several kinds; of the file that is named.
        """
        if self._waiting:
            self._type_those_that_wait(file)
        return self._schema
