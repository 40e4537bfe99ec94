"""What a table of scores says of the tasks themselves, for strategies and maps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import polars as pl

from engine.tasks import Task

TASK_COLUMNS: dict[str, Any] = {
    "category": pl.String,
    "classification": pl.Boolean,
    "definition": pl.String,
}
"""The columns, beside `task_id`."""


def task_row(task: Task) -> dict[str, Any]:
    """`task_id` and `TASK_COLUMNS` of a task."""
    return {
        "task_id": task.id,
        "category": task.category,
        "classification": task.is_classification,
        "definition": task.definition,
    }


def task_table(rows: Iterable[dict[str, Any]]) -> pl.DataFrame:
    """A table of such rows."""
    return pl.DataFrame(list(rows), schema={"task_id": pl.String, **TASK_COLUMNS})


def with_columns_of(rows: pl.DataFrame, *tables: pl.DataFrame) -> pl.DataFrame:
    """A table with what others say of its tasks: the columns that it lacks, null where no row is.

    Args:
        rows: A row per task, with `task_id`.
        tables: Likewise; of columns of one name the first one counts.
    """
    for table in tables:
        new = ["task_id", *(name for name in table.columns if name not in rows.columns)]
        rows = rows.join(table.select(new), on="task_id", how="left", maintain_order="left")
    return rows
