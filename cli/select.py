"""`jostle select` and `jostle strategies`: which scored tasks to train on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.pool import Overwrite
from cli.terminal import fitted

if TYPE_CHECKING:
    import polars as pl


def select(
    scores: Annotated[
        Path,
        typer.Argument(help="Scores, as jostle score writes them; with --rows pairs or answers."),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Task ids, or TASK/INSTANCE, one per line.")
    ],
    n_tasks: Annotated[int, typer.Option("-n", "--tasks", min=1, help="How many to take.")],
    strategy: Annotated[
        str | None,
        typer.Option(help="See jostle strategies.", show_default="prompt_uncertainty"),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the strategy; repeat it."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with name and settings of the strategy.")
    ] = None,
    rows: Annotated[
        bool,
        typer.Option("--rows", help="Choose single instances, by what is measured of each."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Of every draw.")] = 0,
    force: Annotated[
        list[str] | None,
        typer.Option(help="A task that is taken in any case, or a file of them; repeat it."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(help="A task that is not taken, or a file of them; repeat it."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Choose tasks; what is written beside OUTPUT says why each was taken.

    Example: jostle select scores.parquet -n 50 -o selected.txt
    """
    from engine.errors import InputError
    from engine.files import check_output, write_json
    from engine.pools.names import write_names
    from engine.variance.overlap import repeat_in_words
    from training.config.toml_file import put_setting, read_toml
    from training.selection import parse_strategy
    from training.selection import select as choose

    inputs = (scores, config, *(force or ()), *(exclude or ()))
    check_output(output, overwrite=overwrite, inputs=inputs)
    reasons = output.with_suffix(".selection.json")
    check_output(reasons, overwrite=overwrite, inputs=inputs)
    values: dict[str, Any] = {"name": "prompt_uncertainty"}
    values |= {} if config is None else read_toml(config)
    values |= {} if strategy is None else {"name": strategy}
    for word in setting or ():
        put_setting(values, word)
    table = read_table(scores)
    if rows:
        from engine.measures.compute import compute_row_measures

        table = compute_row_measures(table, scores)
    strategy_given = parse_strategy(values, config)
    forced, excluded = _task_ids(force), _task_ids(exclude)
    try:
        chosen = choose(table, strategy_given, n_tasks, seed, forced=forced, excluded=excluded)
    except InputError as error:
        if error.file or error.field in (None, "n_tasks", "forced"):
            raise
        raise error.within(scores) from error
    write_json(reasons, chosen.model_dump(mode="json"))
    write_names(output, chosen.task_ids)
    for note in chosen.notes:
        typer.echo(f"note: {note}", err=True)
    for task in chosen.tasks[:10]:
        line = f"{task.rank:4}  {task.task_id}  ({task.reason})"
        typer.echo(fitted(line, sys.stdout, " " * 6))
    if len(chosen.tasks) > 10:
        typer.echo(f"      and {len(chosen.tasks) - 10:,} more")
    if (
        chosen.strategy == "prompt_uncertainty"
        and "standard_error" in table.columns
        and (repeat := repeat_in_words(table, chosen.task_ids))
    ):
        typer.echo(repeat)
    what = "instances" if rows else "tasks"
    told = f"{output}: {len(chosen.tasks):,} of {chosen.n_candidates:,} {what}, {reasons}: why"
    typer.echo(fitted(told, sys.stdout))


def strategies() -> None:
    """List the selection strategies and their settings."""
    from training.selection import STRATEGIES

    for name, kind in STRATEGIES.items():
        typer.echo(f"{name}\n    {kind.summary}")
        for setting, field in kind.model_fields.items():
            if setting != "name":
                default = field.get_default()
                shown = getattr(default, "name", default)
                needed = "must be given" if field.is_required() else f"{shown} by default"
                typer.echo(f"    {setting}: {needed}")


def read_table(path: Path) -> pl.DataFrame:
    """A Parquet file; the columns that have a meaning of ours have our types.

    Raises:
        InputError: If it cannot be read, or is none, or a column has another type.
    """
    import polars as pl

    from engine.errors import InputError
    from training.tables.score_tables import PAIR_COLUMNS, SCORE_COLUMNS
    from training.tables.task_columns import TASK_COLUMNS

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


def _check_values(table: pl.DataFrame, path: Path) -> None:
    """Ids are some, and what is a mean of likelihoods or of their differences lies in [0, 1]."""
    import polars as pl

    from engine.errors import InputError
    from engine.tasks import id_fault

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
    import polars as pl

    if found == pl.Null or found.base_type() == ours.base_type():
        return True
    if ours == pl.String:
        return isinstance(found, pl.Categorical | pl.Enum)
    return found.is_integer() if ours.is_integer() else ours.is_float() and found.is_numeric()


def _task_ids(words: list[str] | None) -> list[str]:
    """Task ids, given as such or in files."""
    from training.selection.selection_record import read_task_ids

    ids: list[str] = []
    for word in words or ():
        try:
            is_file = Path(word).is_file()
        except OSError:  # no name of a file can be so long
            is_file = False
        ids += read_task_ids(Path(word)) if is_file else [word]
    return ids
