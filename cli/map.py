"""`jostle map`: the task map as a page or a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.pool import Overwrite

if TYPE_CHECKING:
    from training.report.scorings import Scoring


def task_map(
    scores: Annotated[
        Path, typer.Argument(help="Scores, as jostle score writes them; or a run folder.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="A .html page, or a .png or .svg picture.")
    ],
    selected: Annotated[
        Path | None,
        typer.Option(help="Task ids to mark, as jostle select writes them."),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="Scored pairs, for the stability of categories.",
            show_default="SCORES.pairs.parquet, or pairs.parquet beside scores.parquet",
        ),
    ] = None,
    uncertainty_quantile: Annotated[
        float, typer.Option(min=0, max=1, help="Where tasks begin to be ambiguous.")
    ] = 0.5,
    probability_quantile: Annotated[
        float, typer.Option(min=0, max=1, help="Where other tasks begin to be easy.")
    ] = 0.5,
    uncertainty: Annotated[
        float | None, typer.Option(min=0, max=1, help="The former as a value.")
    ] = None,
    probability: Annotated[
        float | None, typer.Option(min=0, max=1, help="The latter as a value.")
    ] = None,
    replicates: Annotated[int, typer.Option(min=1, help="Bootstrap replicates.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    table: Annotated[
        Path | None,
        typer.Option(help="A .parquet file for the scores with categories and their stability."),
    ] = None,
    title: Annotated[str, typer.Option(help="Heading.")] = "Task map",
    dark: Annotated[bool, typer.Option("--dark", help="A picture on dark ground.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Draw prompt uncertainty against prediction probability, task by task.

    Example: jostle map scores.parquet -o map.svg --selected selected.txt
    """
    from engine.errors import InputError
    from engine.files import check_output
    from engine.measures.task_map import CATEGORIES, UNMEASURABLE, MapConfig
    from training.report.charts.picture import PICTURES
    from training.report.map_table import map_table
    from training.report.scorings import Scoring, scorings_of
    from training.run.run_folder import RunFolder
    from training.run.state import read_state
    from training.selection.selection_record import read_task_ids
    from training.tables.table_files import read_table, write_parquet

    if output.suffix not in (".html", *PICTURES):
        raise InputError("the output's name must end in .html, .png or .svg", file=output)
    if dark and output.suffix == ".html":
        raise InputError("is for pictures; a page is as dark as the reader wants", field="--dark")
    config = MapConfig(
        uncertainty_quantile=uncertainty_quantile,
        probability_quantile=probability_quantile,
        uncertainty=uncertainty,
        probability=probability,
    )
    if scores.is_dir():
        for option, value in (("--selected", selected), ("--pairs", pairs), ("--table", table)):
            if value is not None:
                raise InputError("goes with a file of scores, not with a run", field=option)
        check_output(output, overwrite=overwrite)
        read_state(RunFolder(scores))  # a folder without a run is told as such
        scorings = scorings_of(RunFolder(scores), config)
        if not scorings:
            raise InputError("holds no scored round", file=scores)
        _draw(output, scorings, title, dark)
        typer.echo(output)
        return
    found = read_table(scores)
    if pairs is None:
        beside = [scores.with_suffix(".pairs.parquet")]
        if scores.name == "scores.parquet":  # of a round
            beside.append(scores.with_name("pairs.parquet"))
        pairs = next(filter(Path.is_file, beside), None)
    if table is not None and table.suffix != ".parquet":
        raise InputError("the table's name must end in .parquet", file=table)
    for path in (output, table):
        if path is not None:
            check_output(path, overwrite=overwrite, inputs=(scores, selected, pairs))
    chosen = None if selected is None else read_task_ids(selected)
    found, thresholds = map_table(
        found,
        config,
        selected=chosen,
        pairs=None if pairs is None else read_table(pairs),
        n_replicates=replicates,
        seed=seed,
        source=scores,
        pairs_source=pairs,
    )
    _draw(output, [Scoring.of(title, found, thresholds, chosen)], title, dark, pairs)
    if table is not None:
        write_parquet(table, found)
    counts = [f"{(found['map_category'] == name).sum():,} {name}" for name in CATEGORIES]
    if left := found["prompt_uncertainty"].null_count():
        counts.append(f"{left:,} {UNMEASURABLE}: no perturbed prompt differs from the original")
    typer.echo(f"{output}: {', '.join(counts)}")
    if pairs is not None:
        unsure = (found["map_stability"] < 0.9).sum()
        typer.echo(
            f"{unsure:,} of {found.height - left:,} tasks change category in over a tenth of "
            f"{replicates} bootstrap replicates"
        )
        known = found.drop_nulls("map_stability")
        sizes = [
            known[name] for name in ("n_instances", "n_perturbations") if name in known.columns
        ]
        if single := sum(1 in each for each in zip(*sizes, strict=True)):
            typer.echo(
                f"note: of {single:,} tasks only one instance or one perturbation was scored; what "
                "others would change is not in their stability"
            )


def _draw(
    output: Path, scorings: list[Scoring], title: str, dark: bool, pairs: Path | None = None
) -> None:
    if output.suffix == ".html":
        from training.report.run_report import write_report
        from training.report.task_details import ScoringFiles

        files = [] if pairs is None else [ScoringFiles(pairs)]
        write_report(output, title, {"about": scorings[-1].about}, scorings, {}, files)
    else:
        from training.report.scorings import draw_map

        draw_map(output, scorings, dark=dark)
