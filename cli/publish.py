"""`jostle publish`: make what any trainer has saved loadable, and provable, by a running engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.pool import TrustRemoteCode


def publish(
    folder: Annotated[
        Path, typer.Argument(help="A checkpoint of transformers, or an adapter of peft.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="A new folder for what is published; its files are hard links where possible.",
            show_default="the folder itself",
        ),
    ] = None,
    pool: Annotated[
        str | None,
        typer.Option(help="Whose prompts prove it; see jostle pool stats.", show_default=False),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="Base model of an adapter.", show_default="what its config says"),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="What the version begins with.", show_default="the folder's name"),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="Where transformers computes.", show_default="cuda if it fits, or cpu"),
    ] = None,
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy the files; the trainer writes them again.")
    ] = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Write a manifest by which an engine verifies the weights when it loads them.

    It holds digests of all files, and log-probabilities that transformers computes with the
    weights: the engine has to give the same after the load, or goes back to what was live.
    """
    from training.commands.publish_folder import ProbeSettings, publish_folder

    settings = ProbeSettings(pool, base, device, trust_remote_code)
    manifest = publish_folder(folder, output, settings=settings, name=name, copy=copy)
    typer.echo(f"{output or folder}: {manifest.version}")
