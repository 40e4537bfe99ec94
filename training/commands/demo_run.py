"""The demo: the whole loop on one machine, its engine started for it, and random tasks beside."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from engine.pools.estimate import time_in_words
from engine.variance.overlap import repeat_in_words
from engine.weights.models import BUNDLED_MODEL, default_context
from training.commands.launch import run_config
from training.commands.sweep_runs import RunOne, config_of, fork, kept_engine, shared_steps
from training.config.run_config import PoolConfig, RunConfig
from training.report.comparison import beside_random
from training.report.display import RichProgress, shown_path, summary_table
from training.report.progress_lines import open_progress
from training.run.base_model import base_location
from training.run.run_folder import RunFolder
from training.run.run_pools import Pools, check_pools, load_pools
from training.run.state import RunStep, read_state
from training.run.summary import SummaryRow, read_summary

# All that decides how long the demo takes and what it learns. Sized for two CPU cores: five to six
# minutes in all, of which the engine's start takes 40 s; the two trainers start beside it.
# One scoring as large as that allows says more than two small ones. From the stored pairs of the
# bundled tasks (`benchmarks/data`), a repeat is expected to select again 0.55 of the top 12 with
# this design and 0.35 of the top 6 with 3 instances and 4 perturbations; 10 by 10 comes to 0.60.
DEMO = RunConfig.model_validate(
    {
        "model": {"name": BUNDLED_MODEL, "max_model_len": 2048},
        "score": {
            "n_instances": 8,
            "n_perturbations": 6,
            "instances_per_perturbation": 2,
            "max_output_tokens": 16,
        },
        "select": {"strategy": "prompt_uncertainty", "n_tasks": 12},
        "train": {
            "learning_rate": 1e-4,
            "epochs": 1,
            # Two half batches per step: the same gradient with half the activations in memory.
            "batch_size": 2,
            "gradient_accumulation_steps": 2,
            "instances_per_task": 4,
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
    """What a demo leaves: its records, with those of the random tasks below, and the report."""

    folder: RunFolder
    report: Path

    @property
    def rows(self) -> list[SummaryRow]:
        """Before any training, after every round, and what as many random tasks came to."""
        before, *chosen = read_summary(self.folder)
        drawn = RunFolder(self.folder.beside)
        scored = {
            f"round {each.round}": each.seconds
            for each in read_state(drawn).completed
            if each.step == RunStep.SCORE  # which random tasks have no need of
        }
        return [
            before,
            *_named(chosen, "chosen", {}),
            *_named(read_summary(drawn)[1:], "random", scored),
        ]


def _named(
    rows: Sequence[SummaryRow], kind: str, unneeded: Mapping[str, float]
) -> Iterator[SummaryRow]:
    """Rows as they are called beside others, without the seconds that were not needed."""
    for row in rows:
        name = kind if len(rows) == 1 else f"{kind}, {row.name}"
        seconds = row.seconds - unneeded.get(row.name, 0.0)
        yield row.model_copy(update={"name": name, "seconds": seconds})


def run_demo(
    config: RunConfig,
    run_dir: Path,
    *,
    console: Console | None = None,
    run_one: RunOne = run_config,
) -> DemoResult:
    """Score, select, fine-tune, reload and evaluate; the same with random tasks; write the report.

    An unfinished run of the same config is continued; a finished one is left alone, and a new one
    is started beside it.

    Args:
        config: See `demo_config`.
        run_dir: Where the records go; `-2`, `-3`, ... is added when that is taken.
        run_one: What goes through the rounds of a config.

    Raises:
        InputError: If the pool or the model is at fault; before anything is started.
        EngineError: If the engine fails.
        TrainingError: If the trainer fails.
    """
    console = console or Console()
    config, pools = fit_to_pool(config)
    folder = choose_folder(run_dir, config)
    location = base_location(folder, config.model.name)
    _announce(console, config, pools, folder)
    started = time.monotonic()
    with open_progress(console) as progress, kept_engine(folder, n_trainers=2) as engine:
        go = partial(run_one, pools=pools, progress=progress, location=location, engine=engine)
        _go_both(folder, config, go, progress)
    from training.report.run_report import write_run_report

    result = DemoResult(folder, write_run_report(folder, pools.pool))
    _conclude(console, result, time.monotonic() - started)
    return result


def _go_both(folder: RunFolder, config: RunConfig, go: RunOne, progress: RichProgress) -> None:
    """Train on the chosen tasks, then on random ones, by one scoring."""
    drawn, drawn_config = RunFolder(folder.beside), config_of(config, "random", config.seed)
    # Up to here both are one; a demo that is gone on with may be past it.
    go(folder, config, n_steps=shared_steps(config))
    fork(folder, drawn, config, drawn_config)
    n_tasks = config.select.n_tasks
    for words, where, own in (
        (f"train on the {n_tasks} tasks it wavers on most", folder, config),
        (f"the same with {n_tasks} random tasks", drawn, drawn_config),
    ):
        progress.console.print(f"\n  [bold]{words}[/]", highlight=False)
        go(where, own)


def demo_config(
    *,
    pool: Path | None = None,
    tasks: int | None = None,
    rounds: int = 1,
    model: str = BUNDLED_MODEL,
    seed: int = 0,
    instances: int | None = None,
    perturbations: int | None = None,
    trust_remote_code: bool = False,
) -> RunConfig:
    """`DEMO` with what the user asked for put in.

    Args:
        pool: Folder of Super-NaturalInstructions files; the bundled pool when none.
        tasks: Tasks scored, at most.
        model: `smollm2-135m`, a hub id or a folder; the context is no longer than its own, as far
            as it is here.
        instances: Instances measured per task.
        perturbations: Perturbed prompts per task.
        trust_remote_code: Whether code that comes with the model may run.

    Raises:
        InputError: If the model's config cannot be read.
    """
    chosen = PoolConfig(max_tasks=tasks)
    if pool is not None:
        chosen = PoolConfig(
            path=str(pool.resolve()),
            max_tasks=tasks or FOLDER_TASKS,
            max_held_out_tasks=FOLDER_HELD_OUT_TASKS,
        )
    values: dict[str, Any] = DEMO.model_dump()
    values["pool"] = chosen.model_dump()
    length = default_context(model, DEMO.model.max_model_len)
    values["model"] |= {
        "name": model,
        "trust_remote_code": trust_remote_code,
        "max_model_len": length,
    }
    values["score"] |= {"seed": seed}
    asked = {"n_instances": instances, "n_perturbations": perturbations}
    if given := {name: number for name, number in asked.items() if number is not None}:
        values["score"] |= given | {"instances_per_perturbation": None}
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

    A folder may be used if it is absent or empty, or holds an unfinished demo of this config.
    """
    number = 1
    while True:
        path = run_dir if number == 1 else run_dir.with_name(f"{run_dir.name}-{number}")
        folder = RunFolder(path)
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            return folder
        if folder.state.is_file():
            state = read_state(folder)
            done = state.is_done() and _is_done(RunFolder(folder.beside))
            if not done and state.config_digest == config.digest():
                return folder
        number += 1


def _is_done(folder: RunFolder) -> bool:
    return not folder.state.is_file() or read_state(folder).is_done()


def meaning(result: DemoResult) -> str:
    """The table in sentences: what was gained, what chance gained, how sure the choice is."""
    rows = result.rows
    first, last = rows[0], next(row for row in reversed(rows) if row.name.startswith("chosen"))
    gained = (
        f"Trained on the {last.tasks_trained} tasks it wavered on most, the model went from "
        f"ROUGE-L {first.rouge_l:.1f} to {last.rouge_l:.1f} on held-out tasks; "
        f"{rows[-1].tasks_trained} random ones brought it to {rows[-1].rouge_l:.1f}."
    )
    sentences = [gained, *against_random(result.folder)]
    chosen = result.folder.round(0)
    if repeat := repeat_in_words(chosen.read_scores(), chosen.read_selection().task_ids):
        sure = f"How sure is the choice? With other inputs and other dropped words {repeat}."
        sentences.append(sure)
    return "\n".join(sentences)


def against_random(folder: RunFolder) -> Iterator[str]:
    """What the difference from random tasks is worth; nothing with a single held-out task."""
    beside = beside_random(folder)
    found = beside.differences() if beside else ()
    for row in found:
        better = "The choice" if row["value"] > 0 else "Chance"
        between = f"{row['low']:+.1f} to {row['high']:+.1f} with other held-out tasks"
        if row["low"] <= 0 <= row["high"]:
            told = f"The difference of {row['value']:+.1f} may be none ({between})"
        else:
            told = f"{better} did better by {abs(row['value']):.1f} ({between})"
        yield f"{told}, in one draw of each: whether choosing helps is open."


def _conclude(console: Console, result: DemoResult, seconds: float) -> None:
    console.print()
    console.print(summary_table(result.rows))
    console.print(meaning(result), highlight=False)
    records = shown_path(result.folder.path)
    where = f"\nReport    {shown_path(result.report)}\nRecords   {records}"
    console.print(where, highlight=False, markup=False, soft_wrap=True)
    console.print(f"Took      {time_in_words(seconds)}", highlight=False)


def _announce(console: Console, config: RunConfig, pools: Pools, folder: RunFolder) -> None:
    score, source = config.score, config.pool.path
    pairs = len(pools.pool) * score.n_prompts(score.n_instances)
    categories = len({task.category for task in pools.pool})
    shared = pools.shared_categories
    kinds = f", {len(shared)} categories shared" if shared else " of other categories"
    rounds = "a round" if config.rounds == 1 else f"{config.rounds} rounds"
    continued = "  [dim](continued)[/]" if folder.state.is_file() else ""
    console.print(
        f"[bold]jostle demo[/]  {escape(config.model.name)}, {rounds} of "
        f"{config.select.n_tasks} tasks, and as many random ones beside\n"
        f"  pool       {len(pools.pool)} tasks in {categories} categories ({escape(source)})\n"
        f"  held out   {len(pools.held_out)} tasks{kinds} ({escape(pools.origin)})\n"
        f"  scoring    about {pairs:,} pairs in round 0 "
        f"({score.n_instances} inputs, {score.n_perturbations} other wordings a task)\n"
        f"  records    {escape(str(folder.path))}{continued}\n",
        highlight=False,
        soft_wrap=True,
    )
