"""`jostle reload`: have a running engine load a published checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.client import AdminKey, ApiKey, EngineUrl, connect


def reload(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a published checkpoint.")],
    engine: EngineUrl = "http://127.0.0.1:8000",
    api_key: ApiKey = None,
    admin_key: AdminKey = None,
) -> None:
    """Make a checkpoint live; returns when the engine has verified it."""
    from engine.manifest import read_manifest
    from training.live import make_live

    version = read_manifest(checkpoint).version
    with connect(engine, api_key, admin_key) as client:
        make_live(client, checkpoint, version)
        state = client.weights()
    took = "" if state.seconds is None else f" (the load took {state.seconds:.1f} s)"
    typer.echo(f"{state.version} is live{took}")
