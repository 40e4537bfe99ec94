"""`jostle doctor`: what is wrong here, and how to mend it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_MARKS = {"ok": "ok     ", "warning": "warning", "problem": "PROBLEM"}


def doctor(
    folder: Annotated[Path, typer.Option(help="Where run folders are to go.")] = Path("runs"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to look at.")] = 8000,
) -> None:
    """Look at Python, libraries, device, memory, disk and ports; exit code 2 on a problem."""
    from training.commands.machine_checks import examine

    problems = 0
    for finding in examine(folder, port):
        problems += finding.state == "problem"
        typer.echo(f"{_MARKS[finding.state]}  {finding.name:<16} {finding.found}")
        if finding.mend:
            typer.echo(f"{'':<26}{finding.mend}")
    if problems:
        raise typer.Exit(2)
