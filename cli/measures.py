"""`jostle measures`: what can be measured, and measuring it from stored pairs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.pool import Overwrite
from cli.terminal import fitted


def measures(
    table: Annotated[
        Path | None,
        typer.Argument(
            metavar="[PAIRS]", help="Stored pairs, such as scores.pairs.parquet, to measure."
        ),
    ] = None,
    measure: Annotated[
        list[str] | None, typer.Option("--measure", help="Only this one; repeat it.")
    ] = None,
    needs: Annotated[
        str,
        typer.Option(help="What PAIRS holds: pairs, gold_pairs, or rows such as samples."),
    ] = "pairs",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A .parquet file; a row per task.")
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(help="Scores that the measures are added to, as columns."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """List all measures; or compute them from stored pairs, without scoring anew."""
    from engine.errors import InputError
    from engine.measures.measure_registry import find_measures

    if table is None:
        if output is not None or into is not None:
            raise InputError("goes with PAIRS", field="--output" if output else "--into")
        for each in find_measures(measure or []):
            lowest, highest = f"{each.lowest:g}", f"{each.highest:g}"
            about = f"uncertain where {each.uncertain}; from {each.needs}; {each.source}"
            title = f"{each.title}, in [{lowest}, {highest}]"
            lines = "\n    ".join((each.name, title, each.formula, about))
            typer.echo(fitted(lines, sys.stdout, " " * 6))
        return

    from engine.files import check_output
    from engine.measures.compute import compute_measures
    from engine.measures.measure_registry import INPUTS
    from training.tables.table_files import read_table, write_parquet

    if output is not None:
        if output.suffix != ".parquet":
            raise InputError("the output's name must end in .parquet", file=output)
        check_output(output, overwrite=overwrite, inputs=(table, into))
    if into is not None:
        check_output(into, overwrite=True, inputs=(table,))
    if needs not in INPUTS:
        raise InputError(f"{needs!r} is none of {', '.join(INPUTS)}", field="needs")
    scores = None if into is None else read_table(into)
    pairs = read_table(table)
    found = compute_measures(pairs, needs, measure or [], table)
    there = [] if scores is None else [name for name in found.columns[1:] if name in scores.columns]
    if there and not overwrite:
        problem = "the column is there already; --overwrite replaces it"
        raise InputError(problem, file=into, field=there[0])
    if scores is not None:
        unscored = scores.join(found, on="task_id", how="anti")
        if unscored.height:
            raise InputError("has no pairs", file=table, record=unscored["task_id"][0])
        weights = (each.get_column("weights_version", default=None) for each in (scores, pairs))
        versions = [None if each is None else {*each} for each in weights]
        if None not in versions and versions[0] != versions[1]:
            problem = f"holds pairs of other weights than {into}"
            raise InputError(problem, file=table, field="weights_version")
    if output is not None:
        write_parquet(output, found)
        typer.echo(f"{output}: {found.height:,} tasks, {found.width - 1} measures")
    if into is not None and scores is not None:
        joined = scores.drop(there).join(found, on="task_id", how="left", maintain_order="left")
        write_parquet(into, joined)
        typer.echo(f"{into}: {', '.join(found.columns[1:])} added")
    if output is None and into is None:
        typer.echo(found.write_csv().rstrip())
