"""`jostle select` and `jostle strategies`: which scored tasks to train on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.pool import Overwrite
from cli.terminal import fitted


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
    from training.report.progress_lines import note
    from training.selection import parse_strategy
    from training.selection import select as choose
    from training.tables.table_files import read_table

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
    for said in chosen.notes:
        note(f"note: {said}")
    for task in chosen.tasks[:10]:
        line = f"{task.rank:4}  {task.task_id}  ({task.reason})"
        typer.echo(fitted(line, sys.stdout, " " * 6))
    if len(chosen.tasks) > 10:
        typer.echo(f"      and {len(chosen.tasks) - 10:,} more")
    candidates = table.filter(~table["task_id"].is_in(excluded))
    if (
        chosen.strategy == "prompt_uncertainty"
        and "standard_error" in table.columns
        and (repeat := repeat_in_words(candidates, chosen.task_ids))
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
