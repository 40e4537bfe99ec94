"""What a session answers: records, and a table of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from engine.protocol.api import TaskScore
from engine.tasks import Record

if TYPE_CHECKING:
    import polars as pl

_R = TypeVar("_R", bound=Record)

_INSIDE_TASKS = {"references", "pairs", "usage", "answers"}


class Results(tuple[_R, ...]):
    """Records in the order of what was asked."""

    __slots__ = ()

    def to_polars(self) -> pl.DataFrame:
        """A row per record, a column per field that any record has a value for.

        Of a task's score the measures alone, with those that were asked on top of likelihoods.
        """
        import polars as pl

        rows = [_row(record) for record in self]
        named = {name for row in rows for name, value in row.items() if value is not None}
        return pl.DataFrame(
            [{name: row.get(name) for name in row if name in named} for row in rows],
            infer_schema_length=None,
        )


def _row(record: Record) -> dict[str, Any]:
    if not isinstance(record, TaskScore):
        return record.model_dump()
    row = record.model_dump(exclude=_INSIDE_TASKS)
    for answer in record.answers.values():
        row |= answer.values
    return row
