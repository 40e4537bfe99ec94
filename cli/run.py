"""`jostle run`: all rounds of a config file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[Path, typer.Argument(help="TOML; jostle config init writes one.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.FIELD=VALUE",
        help="Put a value in, as in --set train.learning_rate=1e-4; repeat it.",
        show_default=False,
    ),
]


def run(
    config: ConfigFile,
    run_dir: Annotated[
        Path | None,
        typer.Option(help="Where the records go.", show_default="runs/ and the config's name"),
    ] = None,
    overrides: Overrides = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write the resolved config, show the plan, and stop.")
    ] = False,
    pairs_per_second: Annotated[
        float | None, typer.Option(help="Rate of the engine, for the time of a dry run.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Insist on going on with a run that has begun."),
    ] = False,
) -> None:
    """Score, select, train, reload and evaluate, round after round; going on where it stopped.

    Example: jostle run run.toml --set train.learning_rate=1e-4
    """
    from engine.errors import InputError

    if pairs_per_second is not None and not dry_run:
        raise InputError("goes with --dry-run", field="--pairs-per-second")
    if resume and dry_run:
        raise InputError("does not go with --dry-run", field="--resume")
    from training.commands.run_command import default_folder, plan_from_file, run_from_file
    from training.run.run_folder import RunFolder

    chosen = run_dir or default_folder(config)
    if dry_run:
        plan_from_file(
            config,
            run_dir=chosen,
            overrides=overrides or (),
            pairs_per_second=pairs_per_second,
        )
        return
    if resume and not RunFolder(chosen).state.is_file():
        raise InputError("holds no run to go on with", file=chosen)
    run_from_file(config, run_dir=chosen, overrides=overrides or ())
