"""`jostle doctor`: what is wrong here, and how to mend it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.terminal import fitted

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
        told = f"{_MARKS[finding.state]}  {finding.name:<16} {finding.found}"
        if finding.mend:
            told += f"\n{'':<26}{finding.mend}"
        typer.echo(fitted(told, sys.stdout, " " * 26))
    if problems:
        raise typer.Exit(2)
