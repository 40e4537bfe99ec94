"""Tables on disk: read as somebody gives them, written whole or not at all."""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl

from engine.errors import InputError
from engine.files import write_bytes
from engine.tasks import id_fault
from training.tables.score_tables import PAIR_COLUMNS, SCORE_COLUMNS
from training.tables.task_columns import TASK_COLUMNS


def read_table(path: Path) -> pl.DataFrame:
    """A Parquet file; the columns that have a meaning of ours have our types.

    Raises:
        InputError: If it cannot be read, or is none, or a column has another type.
    """
    if not path.is_file():
        raise InputError("is a folder" if path.is_dir() else "no such file", file=path)
    try:
        table = pl.read_parquet(path, glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"is no readable Parquet file: {error}", file=path) from error
    for name, kind in {**SCORE_COLUMNS, **PAIR_COLUMNS, **TASK_COLUMNS}.items():
        if name not in table.columns:
            continue
        found = table.schema[name]
        try:
            if not _fits(found, kind()):
                raise pl.exceptions.SchemaError
            table = table.with_columns(pl.col(name).cast(kind))
        except pl.exceptions.PolarsError as error:
            problem = f"the column holds {found}, where {kind()} belongs"
            raise InputError(problem, file=path, field=name) from error
    _check_values(table, path)
    return table


def write_parquet(path: Path, frame: pl.DataFrame) -> None:
    """Write a Parquet file whole or not at all; see `engine.files.replacing`."""
    # Through memory: polars dresses a failed write up as an error of the format.
    content = io.BytesIO()
    frame.write_parquet(content)
    write_bytes(path, content.getvalue())


def _check_values(table: pl.DataFrame, path: Path) -> None:
    """Ids are some, and what is a mean of likelihoods or of their differences lies in [0, 1]."""
    if "task_id" not in table.columns:
        return
    if table["task_id"].null_count():
        raise InputError("a task has no id", file=path, field="task_id")
    for fault in filter(None, map(id_fault, table["task_id"].unique(maintain_order=True))):
        raise InputError(fault, file=path, field="task_id")
    for name in ("prompt_uncertainty", "prediction_probability"):
        if name in table.columns:
            # Sums round; what is no number at all is told by what reads the column.
            wrong = table.filter(
                pl.col(name).is_finite() & ~pl.col(name).is_between(-1e-6, 1 + 1e-6)
            )
            for task_id, value in wrong.select("task_id", name).head(1).iter_rows():
                problem = f"{value:g} is not in [0, 1]"
                raise InputError(problem, file=path, record=task_id, field=name)


def _fits(found: pl.DataType, ours: pl.DataType) -> bool:
    """Whether a column may be read as one of ours: whole numbers as numbers, null as anything."""
    if found == pl.Null or found.base_type() == ours.base_type():
        return True
    if ours == pl.String:
        return isinstance(found, pl.Categorical | pl.Enum)
    return found.is_integer() if ours.is_integer() else ours.is_float() and found.is_numeric()
