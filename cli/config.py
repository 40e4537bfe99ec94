"""`jostle config`: write a config file, and check one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.pool import Overwrite
from cli.run import ConfigFile, Overrides

app = typer.Typer(help="Write and check config files of runs.", no_args_is_help=True)


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("config.toml"),
    overwrite: Overwrite = False,
) -> None:
    """Write a config with every field, its default and what it means."""
    from engine.files import check_output, write_bytes
    from training.config.config_file import config_template

    check_output(path, overwrite=overwrite)
    write_bytes(path, config_template().encode())
    typer.echo(f"{path}: start it with jostle run {path}")


@app.command()
def show(config: ConfigFile, overrides: Overrides = None) -> None:
    """Print the resolved config: defaults, file and overrides together."""
    from training.config.config_file import read_config

    typer.echo(read_config(config, overrides or ()).to_toml(), nl=False)
