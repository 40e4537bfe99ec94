"""Several strategies and seeds side by side; what is equal between them is done once.

Runs of one seed differ in their strategy alone, and nothing depends on that before the first
selection. So the steps before it (the base model's evaluation, the initial round, the first
scoring) are done in a folder of their own, and every strategy starts from a copy of it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import product
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from engine.errors import InputError
from engine.files import cannot_write, sync_folder, write_bytes, write_json
from engine.protocol.engine_calls import Engine
from engine.validation import validated
from engine.weights.publishing import link_or_copy
from training.commands.launch import OpenEngine, open_engine
from training.config.run_config import RunConfig, TrainConfig, load_config
from training.report.comparison import Comparison
from training.report.display import RichProgress, plain_table, with_interval
from training.report.report_data import Rows
from training.run.base_model import base_location
from training.run.finetune import Train
from training.run.live_engine import go_back
from training.run.round_scoring import check_selection
from training.run.run_folder import RunFolder
from training.run.run_pools import check_run, check_supply, load_pools
from training.run.state import RunStep, check_same_run, plan, read_state, save_state
from training.selection import parse_strategy
from training.tables.lock import RunLock

SHARED_STRATEGY = "random"
"""Stands in the config of the shared steps, where it has no effect."""


RunOne = Callable[..., None]
"""`training.commands.launch.run_config`, or what is called in its place."""


def run_sweep(
    config: RunConfig,
    strategies: Sequence[str],
    seeds: Sequence[int],
    folder: Path,
    progress: RichProgress,
    run_one: RunOne,
) -> dict[str, Rows]:
    """Run every strategy with every seed; a sweep that is started again goes on.

    Args:
        config: What all runs have in common.
        seeds: Each replaces the seeds of the run, the scoring and the training. The evaluation
            keeps its own, so that all runs are compared on the same tasks and instances.
        folder: Where the run folders go, and `sweep.json`.

    Returns:
        Content of `sweep.json`: `curves`, and `differences` after every round from `random`, or
        else from the first strategy; see `training.report.comparison.Comparison`.

    Raises:
        InputError: If a strategy is unknown, named twice or needs what is not measured, or a run
            folder belongs to another run.
        EngineError: If an engine fails.
        TrainingError: If a trainer fails.
    """
    for names in (strategies, seeds):
        if not names or len(set(names)) != len(names):
            raise InputError("needs different names, at least one", field="sweep")
    for strategy in strategies:
        check_selection(config_of(config, strategy, config.seed))
    for seed in seeds:
        validated(TrainConfig, {"seed": seed}, "sweep")
    check_run(config, folder)
    _check_begun(folder, config)
    for seed in seeds:  # which draws tasks of its own
        pool = load_pools(config_of(config, SHARED_STRATEGY, seed)).pool
        for strategy in strategies:
            check_supply(pool, config_of(config, strategy, seed))
    location = base_location(_begun(folder), config.model.name)
    with RunLock(folder / "sweep.lock"), kept_engine(RunFolder(folder)) as engine:
        go = partial(run_one, location=location, engine=engine)
        for seed in seeds:
            shared_config = config_of(config, SHARED_STRATEGY, seed)
            pools = load_pools(shared_config)
            shared = shared_folder(folder, seed)
            go(shared, shared_config, pools, progress, n_steps=shared_steps(config))
            for strategy in strategies:
                target = run_folder(folder, strategy, seed)
                own = config_of(config, strategy, seed)
                fork(shared, target, shared_config, own)
                go(target, own, pools, progress)
        first = "random" if "random" in strategies else strategies[0]
        ordered = [first, *(name for name in strategies if name != first)]
        runs = Comparison([run_folder(folder, *each).path for each in product(ordered, seeds)])
        result = {"curves": runs.curves(), "differences": runs.differences(every_round=True)}
        write_json(folder / "sweep.json", result)
    return result


def _check_begun(folder: Path, config: RunConfig) -> None:
    """That what has been trained in a sweep's folder was trained as what comes."""
    for run in map(RunFolder, sorted(file.parent for file in folder.glob("*/state.json"))):
        state = read_state(run)
        if state.has_trained:
            begun = load_config(run.config)
            asked = config_of(config, SHARED_STRATEGY, begun.seed)
            own = asked.select.model_copy(update={"strategy": begun.select.strategy})
            check_same_run(run, state, asked.model_copy(update={"select": own}))


def shared_folder(folder: Path, seed: int) -> RunFolder:
    """The folder of the steps that all runs of a seed share."""
    return RunFolder(folder / f"shared-seed-{seed}")


def _begun(folder: Path) -> RunFolder:
    """Shared steps that have begun, if there are such: all seeds start from their model."""
    begun = sorted(folder.glob("shared-seed-*/state.json"))
    return RunFolder(begun[0].parent) if begun else shared_folder(folder, 0)


def run_folder(folder: Path, strategy: str, seed: int) -> RunFolder:
    """The folder of one run of a sweep."""
    return RunFolder(folder / f"{strategy}-seed-{seed}")


def config_of(config: RunConfig, strategy: str, seed: int) -> RunConfig:
    """The config of one run of a sweep; the config's own strategy keeps its settings."""
    own = config.select.strategy
    chosen = own if own.name == strategy else parse_strategy(strategy)
    return config.model_copy(
        update={
            "seed": seed,
            "score": config.score.model_copy(update={"seed": seed}),
            "train": config.train.model_copy(update={"seed": seed}),
            "select": config.select.model_copy(update={"strategy": chosen}),
        }
    )


def shared_steps(config: RunConfig) -> int:
    """How many steps come before the first one that depends on the strategy."""
    initial = config.initial.n_tasks > 0
    return plan(config.total_rounds, initial).index((int(initial), RunStep.SELECT))


def fork(source: RunFolder, target: RunFolder, shared: RunConfig, config: RunConfig) -> None:
    """Start a run from a copy of the shared steps; nothing happens if it has begun already.

    Checkpoints are hard links where the file system has them: no step writes into one.

    Raises:
        InputError: If the source holds another run's steps, or more than what is shared; or if the
            copy cannot be written.
    """
    if target.state.is_file():
        return
    state = read_state(source)
    check_same_run(source, state, shared)
    if len(state.completed) > shared_steps(config):
        problem = "has gone on by itself, past the steps that its runs share; remove it"
        raise InputError(problem, file=source.path)
    if target.path.exists():  # a copy that was interrupted: it has no state yet
        shutil.rmtree(target.path)
    skipped = shutil.ignore_patterns(
        source.state.name, source.lock.name, source.progress.name, source.engine_log.name
    )
    try:
        shutil.copytree(source.path, target.path, ignore=skipped, copy_function=_link)
    except shutil.Error as error:  # it holds what went wrong with each file
        raise cannot_write(target.path, OSError(error.args[0][0][-1])) from error
    write_bytes(target.config, config.to_toml().encode())
    sync_folder(target.path)
    save_state(target, state.model_copy(update={"config_digest": config.digest()}))


def _link(source: str, target: str) -> str:
    """Link what never changes in place, copy the rest."""
    link_or_copy(Path(source), Path(target), copy="/checkpoint/" not in source)
    return target


@contextmanager
def kept_engine(folder: RunFolder, n_trainers: int = 0) -> Iterator[OpenEngine]:
    """Opens one engine for all runs, when the first asks for it; the others find the base model.

    So does the first where earlier runs have left their last weights in an engine at a URL.

    Args:
        folder: Holds the engine's log, and all the runs' folders.
        n_trainers: See `training.commands.launch.open_engine`.
    """
    with ExitStack() as stack:
        opened: list[tuple[Engine, Train]] = []

        @contextmanager
        def open_once(
            location: str, run: RunFolder, config: RunConfig, progress: RichProgress
        ) -> Iterator[tuple[Engine, Train]]:
            again = bool(opened)
            if not again:
                own = open_engine(location, folder, config, progress, n_trainers)
                opened.append(stack.enter_context(own))
            if again or (config.engine.urls and _needs_base(run, folder)):
                go_back(opened[0][0])
            yield opened[0]

        yield open_once


def _needs_base(run: RunFolder, folder: RunFolder) -> bool:
    """Whether a run needs the base model in place of what another run of the folder has left."""
    if run.state.is_file():
        return read_state(run).live_round is None
    return any(folder.path.glob("*/state.json"))


def curve_table(curves: Rows, n_seeds: int) -> Table:
    """The learning curves of a sweep."""
    what = f"least to largest of {n_seeds} seeds" if n_seeds > 1 else "95 % intervals over tasks"
    headings = ("trained on", "ROUGE-L", "exact match")
    table = plain_table(f"Held-out tasks, {what}", "strategy", *headings, left=2)
    metrics = [[row for row in curves if row["metric"] == name] for name in headings[1:]]
    for rows in zip(*metrics, strict=True):
        values = (with_interval(row["value"], (row["low"], row["high"])) for row in rows)
        table.add_row(escape(rows[0]["run"]), f"{rows[0]['trained']:g} tasks", *values)
    return table


def difference_table(differences: Rows) -> Table:
    """Paired differences, with intervals and p."""
    title = "ROUGE-L, paired by seed and held-out task"
    table = plain_table(title, "difference", "mean", "95 % interval", "p")
    for each in differences:
        between = f"{each['low']:+.1f} to {each['high']:+.1f}"
        table.add_row(escape(each["pair"]), f"{each['value']:+.1f}", between, f"{each['p']:.3f}")
    return table
