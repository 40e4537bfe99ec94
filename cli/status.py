"""`jostle status`: where a run stands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def status(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    follow: Annotated[
        bool, typer.Option("--follow", help="Keep the table up to date until the run is done.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    web: Annotated[
        bool,
        typer.Option("--web", help="Serve its report on loopback, up to date, until Ctrl-C."),
    ] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Of --web.", show_default="any free one")
    ] = 0,
) -> None:
    """Show which steps of a run are done, how far the current one is, and what came out so far.

    Example: jostle status runs/demo --web
    """
    import time

    from engine.errors import InputError

    if as_json and follow:
        raise InputError("does not go with --follow", field="--json")
    if web and (as_json or follow):
        raise InputError("goes alone", field="--web")
    if port and not web:
        raise InputError("goes with --web", field="--port")
    from rich.console import Console
    from rich.live import Live

    from training.commands.run_status import read_status, status_view
    from training.run.run_folder import RunFolder

    folder = RunFolder(run)
    found = read_status(folder)
    if web:
        from training.report.report_server import ReportServer

        with ReportServer(folder, port) as server:
            typer.echo(f"{server.url} (Ctrl-C ends it)")
            server.serve_forever()
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
        return
    if not follow:
        Console().print(status_view(found))
        return
    with Live(status_view(found, rounds_before=False)) as live:
        while not found.finished:
            time.sleep(1.0)
            found = read_status(folder)
            live.update(status_view(found, rounds_before=False))
