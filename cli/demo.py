"""`jostle demo`: the whole loop on one machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.pool import TrustRemoteCode


def demo(
    pool: Annotated[
        Path | None,
        typer.Option(
            help="Folder of Super-NaturalInstructions JSON files.", show_default="the bundled pool"
        ),
    ] = None,
    tasks: Annotated[
        int | None,
        typer.Option(min=1, help="Score at most this many tasks.", show_default="all"),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds to go.")] = 1,
    model: Annotated[
        str, typer.Option(help="smollm2-135m (bundled), a hub id, or a folder.")
    ] = "smollm2-135m",
    run_dir: Annotated[Path, typer.Option(help="Where the run's records go.")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(help="Seed of every random choice.")] = 0,
    instances: Annotated[
        int | None, typer.Option(min=1, help="Instances measured per task.")
    ] = None,
    perturbations: Annotated[
        int | None, typer.Option(min=1, help="Perturbed prompts per task.")
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Score a pool, train on its most uncertain tasks, evaluate; the same with random ones.

    Example: jostle demo --tasks 8
    """
    from training.commands.demo_run import demo_config, run_demo

    config = demo_config(
        pool=pool,
        tasks=tasks,
        rounds=rounds,
        model=model,
        seed=seed,
        instances=instances,
        perturbations=perturbations,
        trust_remote_code=trust_remote_code,
    )
    run_demo(config, run_dir)
