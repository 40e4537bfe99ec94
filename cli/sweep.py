"""`jostle sweep`: several strategies and seeds side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.run import ConfigFile, Overrides


def sweep(
    config: ConfigFile,
    strategies: Annotated[
        str, typer.Option(help="Names of strategies, separated by commas.")
    ] = "prompt_uncertainty,random",
    seeds: Annotated[str, typer.Option(help="Seeds, separated by commas.")] = "0,1,2",
    folder: Annotated[
        Path | None,
        typer.Option(help="Where the runs go.", show_default="runs/ and the config's name"),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Run every strategy with every seed, equal steps once; end in the learning curves.

    Example: jostle sweep run.toml --strategies prompt_uncertainty,random --seeds 0,1,2
    """
    from rich.console import Console

    from engine.errors import InputError
    from training.commands.launch import run_config
    from training.commands.run_command import default_folder
    from training.commands.sweep_runs import curve_table, difference_table, run_sweep
    from training.config.config_file import read_config
    from training.report.comparison import Comparison
    from training.report.progress_lines import open_progress

    try:
        numbers = [int(seed) for seed in seeds.split(",")]
    except ValueError as error:
        raise InputError("needs whole numbers separated by commas", field="--seeds") from error
    console = Console()
    chosen = folder or default_folder(config).with_name(f"{config.stem}-sweep")
    names = [name.strip() for name in strategies.split(",")]
    with open_progress(console) as progress:
        result = run_sweep(
            read_config(config, overrides or ()), names, numbers, chosen, progress, run_config
        )
    console.print(curve_table(result["curves"], len(numbers)))
    if differences := result["differences"]:
        console.print(difference_table(differences))
    page = chosen / "compare.html"
    Comparison([chosen]).write(page)
    where = f"Compared  {page}\nRecords   {chosen}"
    console.print(where, highlight=False, markup=False, soft_wrap=True)
