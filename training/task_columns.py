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
