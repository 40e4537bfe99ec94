"""`jostle compare`: runs over each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.pool import Overwrite


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or folders of sweeps.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="A .html page, or a .png or .svg of the curves.")
    ] = Path("compare.html"),
    overwrite: Overwrite = False,
) -> None:
    """Lay runs over each other: learning curves, and paired differences from the first one.

    Example: jostle compare runs/uncertain runs/random -o compare.html
    """
    from engine.errors import InputError
    from engine.files import check_output
    from training.report.charts.picture import PICTURES
    from training.report.comparison import Comparison

    if output.suffix not in (".html", *PICTURES):
        raise InputError("the output's name must end in .html, .png or .svg", file=output)
    check_output(output, overwrite=overwrite)
    comparison = Comparison(runs)
    comparison.write(output)
    for row in comparison.differences():
        between = f"({row['low']:+.1f} to {row['high']:+.1f}), p = {row['p']:.3f}"
        typer.echo(f"{row['pair']}: ROUGE-L {row['value']:+.1f} {between}")
    typer.echo(output)
