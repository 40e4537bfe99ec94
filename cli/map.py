"""`jostle map`: the task map as a page or a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.pool import Overwrite


def task_map(
    scores: Annotated[Path, typer.Argument(help="Scores, as jostle score writes them.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="A .html page, or a .png picture.")
    ],
    selected: Annotated[
        Path | None,
        typer.Option(help="Task ids to mark, as jostle select writes them."),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="Scored pairs, for the stability of categories.",
            show_default="SCORES.pairs.parquet or pairs.parquet beside the scores",
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
    overwrite: Overwrite = False,
) -> None:
    """Draw prompt uncertainty against prediction probability, task by task."""
    from cli.select import read_table
    from engine.errors import InputError
    from engine.files import check_output, replacing
    from engine.measures.task_map import CATEGORIES, UNMEASURABLE, MapConfig
    from training.report.map_page import map_table, write_map_page
    from training.selection.selection_record import read_task_ids
    from training.tables.record_files import write_parquet

    if output.suffix not in (".html", ".png"):
        raise InputError("the output's name must end in .html or .png", file=output)
    config = MapConfig(
        uncertainty_quantile=uncertainty_quantile,
        probability_quantile=probability_quantile,
        uncertainty=uncertainty,
        probability=probability,
    )
    found = read_table(scores)
    if pairs is None:
        beside = (scores.with_suffix(".pairs.parquet"), scores.with_name("pairs.parquet"))
        pairs = next((path for path in beside if path.is_file()), None)
    if table is not None and table.suffix != ".parquet":
        raise InputError("the table's name must end in .parquet", file=table)
    for path in (output, table):
        if path is not None:
            check_output(path, overwrite=overwrite, inputs=(scores, selected, pairs))
    found, thresholds = map_table(
        found,
        config,
        selected=None if selected is None else read_task_ids(selected),
        pairs=None if pairs is None else read_table(pairs),
        n_replicates=replicates,
        seed=seed,
        source=scores,
    )
    if output.suffix == ".html":
        write_map_page(output, found, thresholds, title=title, n_replicates=replicates)
    else:
        from training.report.map_picture import Panel, draw_task_map

        with replacing(output) as part:
            draw_task_map([Panel(title, found, thresholds)], part)
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
        single = (found["n_instances"] == 1).sum() if "n_instances" in found.columns else 0
        if single:
            typer.echo(
                f"note: of {single:,} tasks only one instance was scored; what other instances "
                "would change is not in their stability"
            )
