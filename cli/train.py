"""`jostle train`: fine-tune on named tasks, without an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.run import ConfigFile, Overrides


def train(
    config: ConfigFile,
    tasks: Annotated[
        Path, typer.Argument(help="A selection.json, or a file with one task id a line.")
    ],
    output: Annotated[Path, typer.Option(help="Folder for the checkpoint.")] = Path("runs/train"),
    overrides: Overrides = None,
) -> None:
    """Fine-tune a config's model on some tasks of its pool, and publish the checkpoint."""
    from rich.console import Console

    from training.commands.single_step import train_on
    from training.config.config_file import read_config
    from training.report.progress_lines import open_progress

    progress = open_progress(Console(stderr=True))
    manifest = train_on(read_config(config, overrides or ()), tasks, output, progress)
    typer.echo(f"{output / 'checkpoint'}: {manifest.version}")
