"""The demo: the whole loop on one machine, with an engine of its own."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from engine.variance.overlap import repeat_in_words
from engine.weights.models import BUNDLED_MODEL, resolve_model
from training.commands.launch import run_config
from training.config.run_config import PoolConfig, RunConfig
from training.report.display import shown_path, summary_table
from training.report.progress_lines import open_progress
from training.run.run_folder import RunFolder
from training.run.run_pools import BUNDLED, Pools, check_pools, load_pools
from training.run.state import RunState
from training.run.summary import SummaryRow, read_summary
from training.tables.record_files import read_json

# All that decides how long the demo takes and what it learns. Sized for two CPU cores: eight
# minutes in all, of which the engine's start takes 40 s and the trainer's two starts 15 s each.
DEMO = RunConfig.model_validate(
    {
        "model": {"name": BUNDLED_MODEL, "max_model_len": 2048},
        "score": {"n_instances": 3, "n_perturbations": 4, "max_output_tokens": 16},
        "select": {"strategy": "prompt_uncertainty", "n_tasks": 6},
        "train": {
            "learning_rate": 1e-4,
            "epochs": 1,
            # Two half batches per step: the same gradient with half the activations in memory.
            "batch_size": 2,
            "gradient_accumulation_steps": 2,
            "instances_per_task": 8,
        },
        "evaluate": {"instances_per_task": 5, "max_new_tokens": 24},
    }
)
FOLDER_TASKS = 24
"""Tasks taken of a user's folder unless they say otherwise: real tasks have long prompts."""

FOLDER_HELD_OUT_TASKS = 8
"""Held-out tasks taken of a user's folder."""


@dataclass(frozen=True)
class DemoResult:
    """What a demo leaves: the records, the table, the report."""

    folder: RunFolder
    rows: list[SummaryRow]
    report: Path


def run_demo(
    *,
    pool: Path | None = None,
    tasks: int | None = None,
    rounds: int = 2,
    model: str = BUNDLED_MODEL,
    run_dir: Path = Path("runs/demo"),
    seed: int = 0,
    instances: int | None = None,
    perturbations: int | None = None,
    trust_remote_code: bool = False,
    console: Console | None = None,
) -> DemoResult:
    """Score, select, fine-tune, reload and evaluate, and write the report.

    An unfinished run with the same arguments is continued; a finished one is left alone, and a new
    one is started beside it.

    Args:
        pool: Folder of Super-NaturalInstructions files; the bundled pool when none.
        tasks: Tasks scored, at most.
        model: `smollm2-135m`, a hub id or a folder.
        run_dir: Where the records go; `-2`, `-3`, ... is added when that is taken.
        instances: Instances measured per task.
        perturbations: Perturbed prompts per task.
        trust_remote_code: Whether code that comes with the model may run.

    Raises:
        InputError: If the pool, the model or an argument is at fault; before anything is started.
        EngineError: If the engine fails.
        TrainingError: If the trainer fails.
    """
    console = console or Console()
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
    config, pools = fit_to_pool(config)
    location = str(resolve_model(model))
    folder = choose_folder(run_dir, config)
    _announce(console, config, pools, folder)
    started = time.monotonic()
    with open_progress(console) as progress:
        run_config(folder, config, pools, progress, location=location)
    from training.report.run_report import refresh_run_report

    report = refresh_run_report(folder, pools.pool)
    result = DemoResult(folder, read_summary(folder), report)
    _conclude(console, result, time.monotonic() - started)
    return result


def demo_config(
    *,
    pool: Path | None,
    tasks: int | None,
    rounds: int,
    model: str,
    seed: int,
    instances: int | None,
    perturbations: int | None,
    trust_remote_code: bool,
) -> RunConfig:
    """`DEMO` with what the user asked for put in; see `run_demo`."""
    chosen = PoolConfig(max_tasks=tasks)
    if pool is not None:
        chosen = PoolConfig(
            path=str(pool.resolve()),
            max_tasks=tasks or FOLDER_TASKS,
            max_held_out_tasks=FOLDER_HELD_OUT_TASKS,
        )
    values: dict[str, Any] = DEMO.model_dump()
    values["pool"] = chosen.model_dump()
    values["model"] |= {"name": model, "trust_remote_code": trust_remote_code}
    values["score"] |= {"seed": seed}
    if instances is not None:
        values["score"]["n_instances"] = instances
    if perturbations is not None:
        values["score"]["n_perturbations"] = perturbations
    values["train"] |= {"seed": seed}
    values["evaluate"] |= {"seed": seed}
    return RunConfig.model_validate(values | {"rounds": rounds, "seed": seed})


def fit_to_pool(config: RunConfig) -> tuple[RunConfig, Pools]:
    """Load the pools, and select fewer tasks per round when the pool is small.

    At least half of the pool stays unselected, so that there is something to select from.

    Raises:
        InputError: See `training.run.run_pools.load_pools`.
    """
    least = config.model_copy(update={"select": config.select.model_copy(update={"n_tasks": 1})})
    pools = load_pools(least)
    n_tasks = min(config.select.n_tasks, max(1, len(pools.pool) // (2 * config.rounds)))
    select = config.select.model_copy(update={"n_tasks": n_tasks})
    fitted = config.model_copy(update={"select": select})
    check_pools(pools, fitted)
    return fitted, pools


def choose_folder(run_dir: Path, config: RunConfig) -> RunFolder:
    """`run_dir`, or the next of `run_dir-2`, `run_dir-3`, ... that may be used.

    A folder may be used if it is absent or empty, or holds an unfinished run of this config.
    """
    number = 1
    while True:
        path = run_dir if number == 1 else run_dir.with_name(f"{run_dir.name}-{number}")
        folder = RunFolder(path)
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            return folder
        if folder.state.is_file():
            state = read_json(folder.state, RunState)
            if state.current_step is not None and state.config_digest == config.digest():
                return folder
        number += 1


def meaning(result: DemoResult) -> str:
    """The table in a sentence, and how far its selection can be trusted."""
    first, last = result.rows[0], result.rows[-1]
    scores = result.folder.round(0).read_scores()
    selected = len(result.folder.round(0).read_selection().task_ids)
    chance = selected**2 / scores["prompt_uncertainty"].count()
    return (
        f"Trained on the {last.tasks_trained} tasks it wavered on most, the model went from "
        f"ROUGE-L {first.rouge_l:.1f} to {last.rouge_l:.1f} on held-out tasks. Measured "
        f"again, {repeat_in_words(scores, selected)}; chance alone would about {chance:.0f}."
    )


def _conclude(console: Console, result: DemoResult, seconds: float) -> None:
    console.print()
    console.print(summary_table(result.rows))
    console.print(meaning(result), highlight=False)
    records = shown_path(result.folder.path)
    where = f"\nReport    {shown_path(result.report)}\nRecords   {records}"
    console.print(where, highlight=False, soft_wrap=True)
    console.print(f"Took      {seconds / 60:.1f} minutes", highlight=False)


def _announce(console: Console, config: RunConfig, pools: Pools, folder: RunFolder) -> None:
    score = config.score
    pairs = len(pools.pool) * score.n_prompts(score.n_instances)
    categories = len({task.category for task in pools.pool})
    source = "bundled" if config.pool.path == BUNDLED else config.pool.path
    shared = pools.shared_categories
    kinds = "of other categories" if not shared else f"{len(shared)} categories shared"
    continued = "  [dim](continued)[/]" if folder.state.is_file() else ""
    console.print(
        f"[bold]jostle demo[/]  {escape(config.model.name)}, {config.rounds} round(s) of "
        f"{config.select.n_tasks} tasks\n"
        f"  pool       {len(pools.pool)} tasks in {categories} categories ({escape(source)})\n"
        f"  held out   {len(pools.held_out)} tasks, {kinds} ({escape(pools.origin)})\n"
        f"  scoring    about {pairs:,} pairs in round 0 "
        f"({score.n_instances} instances, {score.n_perturbations} perturbations)\n"
        f"  records    {escape(str(folder.path))}{continued}\n",
        highlight=False,
        soft_wrap=True,
    )
