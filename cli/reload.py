"""`jostle reload`: have a running engine load a published checkpoint, or what it began with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.client import AdminKey, ApiKey, EngineUrl, connect


def reload(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(help="Folder of a published checkpoint.", show_default="none with --base"),
    ] = None,
    base: Annotated[
        bool, typer.Option("--base", help="Go back to the weights the engine was started with.")
    ] = False,
    publish: Annotated[
        bool, typer.Option("--publish", help="Publish it first, where it is, if it is not.")
    ] = False,
    unverified: Annotated[
        bool,
        typer.Option(
            "--unverified", help="Load a folder that is not published; its version says so."
        ),
    ] = False,
    url: EngineUrl = "http://127.0.0.1:8000",
    api_key: ApiKey = None,
    admin_key: AdminKey = None,
) -> None:
    """Make a checkpoint live; returns when the engine has verified it.

    A checkpoint may be an adapter alone, as its manifest then says; the engine merges it into the
    weights it was trained on. The weights of the start are proved by their manifest, or else by the
    probes of what took their place, as the engine scored them then.
    """
    from engine.errors import InputError
    from engine.weights.manifest import MANIFEST_NAME, read_manifest
    from training.run.live_engine import go_back, make_live

    if base == (checkpoint is not None):
        raise InputError("either a checkpoint or --base", field="CHECKPOINT")
    for option, given in (("--publish", publish), ("--unverified", unverified)):
        if given and checkpoint is None:
            raise InputError("goes with a checkpoint", field=option)
    if publish and unverified:
        raise InputError("what is published is verified: either of the two", field="--unverified")
    if publish and checkpoint and not (checkpoint / MANIFEST_NAME).is_file():
        from training.commands.publish_folder import publish_folder

        publish_folder(checkpoint)
    version = read_manifest(checkpoint).version if checkpoint and not unverified else ""
    with connect(url, api_key, admin_key) as client:
        if checkpoint and unverified:
            client.load_weights(checkpoint, None, verify="files")
        elif checkpoint:
            make_live(client, checkpoint, version)
        else:
            go_back(client)
        state = client.weights()
    where = "" if state.base is None else f", merged into {state.base}"
    took = "" if state.seconds is None else f" (the load took {state.seconds:.1f} s)"
    typer.echo(f"{state.version} is live{where}{took}")
