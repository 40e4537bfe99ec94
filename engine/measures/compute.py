"""The measures of a table: a row per task, a column per measure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from engine.errors import InputError
from engine.measures.measure import PLACE, Measure
from engine.measures.measure_registry import INPUTS, find_measures
from engine.variance.pair_grid import grids_of_table, rows_by_task


def compute_measures(
    table: pl.DataFrame,
    needs: str = "pairs",
    names: Sequence[str] = (),
    source: object | None = None,
) -> pl.DataFrame:
    """Measures of every task of a table; nothing is scored anew.

    Args:
        table: The columns of this input; others are left alone.
        names: Which measures; all that are computed from such a table when there is none.
        source: The file it came from, for messages.

    Returns:
        `task_id`, in the order of its first row, and a column per measure; null where it needs a
        perturbed prompt and the task has none, for none would differ from the original, or a column
        that older tables lack.

    Raises:
        InputError: If a name is unknown, a column is missing, two rows are the same pair, the rows
            carry several weights versions, an instance lacks its original prompt or a context of
            its gold output, or a measure comes to no finite number in its range.
    """
    measures = find_measures(names, needs)
    check_table(table, needs, source)
    rows = []
    for task_id, task in tasks_of_table(table, needs):
        try:
            rows.append((task_id, *(each.compute(task) for each in measures)))
        except InputError as fault:
            record = "/".join(filter(None, (task_id, fault.record)))
            told = InputError(fault.problem, file=source, record=record, field=fault.field)
            raise told from fault
    columns = {each.name: pl.Float64 for each in measures}
    found = pl.DataFrame(rows, schema={"task_id": pl.String, **columns}, orient="row")
    perturbed = table.filter(pl.col("perturbation") > 0)["task_id"].unique().implode()
    for measure in measures:
        measured = pl.col(measure.name).is_not_null()
        if not measure.may_lack:
            measured |= pl.col("task_id").is_in(perturbed)
        _check_values(found.filter(measured), measure, source)
    return found


def compute_row_measures(table: pl.DataFrame, source: object | None = None) -> pl.DataFrame:
    """Measures of every single instance, as if each were a task.

    Args:
        table: Of the columns of any input, which tell what it is.
        source: The file it came from, for messages.

    Returns:
        `task_id`, which is `task/instance`, a column per measure, and `weights_version`.

    Raises:
        InputError: If it is no such table, or see `compute_measures`.
    """
    kinds = [kind for kind in INPUTS.values() if {*kind.columns} <= {*table.columns}]
    if not kinds:
        problem = "holds no rows of instances; give stored pairs or answers, not scores"
        raise InputError(problem, file=source)
    # Rows of labels look like pairs, but for what tells those of one prompt apart.
    needs = max(kinds, key=lambda kind: len(kind.key)).name
    named = table.with_columns(task_id=pl.concat_str("task_id", "instance_id", separator="/"))
    places = table.select("task_id", "instance_id").unique()
    names = places.select(pl.concat_str(pl.all(), separator="/")).to_series()
    if not names.is_unique().all():
        twice = names.filter(names.is_duplicated())[0]
        problem = "is the name of instances of two tasks, one of which has a slash in its id"
        raise InputError(problem, file=source, record=twice, field="task_id")
    found = compute_measures(named, needs, source=source)
    if "weights_version" not in table.columns or table.is_empty():
        raise InputError("holds no weights version", file=source, field="weights_version")
    return found.with_columns(weights_version=pl.lit(table["weights_version"][0]))


def tasks_of_table(table: pl.DataFrame, needs: str) -> Iterator[tuple[str, Any]]:
    """The id of each task, in the order of its first row, and what its measures are given."""
    kind = INPUTS[needs]
    used = table.select(*kind.columns, *(each for each in kind.optional if each in table.columns))
    if kind.arrange is None:
        yield from grids_of_table(used)
        return
    for task_id, rows in rows_by_task(used):
        yield task_id, kind.arrange(rows.iter_rows(named=True))


def require_column(table: pl.DataFrame, column: str, source: object | None = None) -> None:
    """Raises `InputError` if a column is missing, listing those that are there."""
    if column not in table.columns:
        there = ", ".join(table.columns)
        raise InputError(f"the column is missing; there are {there}", file=source, field=column)


def check_scores(
    scores: pl.DataFrame, columns: Sequence[str], source: object | None = None
) -> None:
    """Raises `InputError` if a column is missing, or a task is there twice."""
    for column in columns:
        require_column(scores, column, source)
    twice = scores.filter(pl.col("task_id").is_duplicated())["task_id"]
    if not twice.is_empty():
        raise InputError("is there twice", file=source, record=twice[0], field="task_id")


def check_table(table: pl.DataFrame, needs: str, source: object | None = None) -> None:
    """That a table is what measures are computed from.

    Raises:
        InputError: See `compute_measures`.
    """
    optional = INPUTS[needs].optional
    for column, kind in (INPUTS[needs].columns | optional).items():
        if column in optional and column not in table.columns:
            continue
        require_column(table, column, source)
        wanted = pl.DataType.from_python(kind)
        if table.schema[column] != wanted:
            problem = f"holds {table.schema[column]}, not {wanted}"
            raise InputError(problem, file=source, field=column)
        missing = table.filter(pl.col(column).is_null())
        if missing.height and column not in optional:
            raise InputError(
                "holds nothing", file=source, record=missing["task_id"][0], field=column
            )
    if "weights_version" in table.columns and table["weights_version"].n_unique() > 1:
        versions = ", ".join(sorted(map(str, table["weights_version"].unique())))
        problem = f"rows of several weights: {versions}"
        raise InputError(problem, file=source, field="weights_version")
    if "n_tokens" in INPUTS[needs].columns:
        empty = table.filter(pl.col("n_tokens") < 1)
        if empty.height:
            record = _name(empty.row(0, named=True))
            raise InputError("must be at least 1", file=source, record=record, field="n_tokens")
    twice = table.filter(table.select(*PLACE, *INPUTS[needs].key).is_duplicated())
    if twice.height:
        raise InputError("is there twice", file=source, record=_name(twice.row(0, named=True)))
    if INPUTS[needs].has_originals:
        _check_originals(table, source)


def _check_originals(table: pl.DataFrame, source: object | None) -> None:
    """That each instance has an original prompt."""
    instances = table.group_by("task_id", "instance_id", maintain_order=True)
    there = (pl.col("perturbation") == 0).any()
    bare = instances.agg(there=there).filter(~pl.col("there"))
    for task_id, instance_id, _ in bare.iter_rows():
        problem = "has no original prompt, j = 0"
        raise InputError(problem, file=source, record=f"{task_id}/{instance_id}")


def _check_values(found: pl.DataFrame, measure: Measure, source: object | None) -> None:
    value = pl.col(measure.name)
    # What rounding takes a value beyond its range by is no fault.
    inside = value.is_finite() & value.is_between(measure.lowest - 1e-9, measure.highest + 1e-9)
    bad = found.filter(~inside.fill_null(value=False))
    if bad.height:
        row = bad.row(0, named=True)
        raise InputError(
            f"comes to {row[measure.name]}, which is not in "
            f"[{measure.lowest:g}, {measure.highest:g}]",
            file=source,
            record=row["task_id"],
            field=measure.name,
        )


def _name(row: dict[str, object]) -> str:
    return f"{row['task_id']}/{row['instance_id']}/j={row['perturbation']}"
