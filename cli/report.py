"""`jostle report`: a run in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.pool import Overwrite


def report(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="A .html file.", show_default="RUN/report.html"),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a run's report: map, curves, tasks, costs, in one file that needs no network.

    Example: jostle report runs/demo
    """
    from engine.errors import InputError
    from engine.files import check_output
    from training.report.run_report import write_run_report
    from training.run.run_folder import RunFolder

    if output is not None:
        if output.suffix != ".html":
            raise InputError("the output's name must end in .html", file=output)
        check_output(output, overwrite=overwrite)
    typer.echo(write_run_report(RunFolder(run), path=output))
