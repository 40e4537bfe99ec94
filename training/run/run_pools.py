"""The tasks of a run: the pool that is trained on and the tasks that are held out."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import polars as pl

from engine.design.race_plan import fit_instances
from engine.errors import InputError
from engine.files import check_folder
from engine.pools import Columns, PoolOptions, load_pool
from engine.pools.bundled import held_out_pool
from engine.pools.checks import Faults, LeftOut
from engine.pools.opening import BUNDLED
from engine.pools.splits import official_split
from engine.prompts import PromptBuilder
from engine.questions.pair_plan import plan_task
from engine.tasks import Pool, Task
from training.config.run_config import PoolConfig, RunConfig
from training.evaluation.evaluator import build_evaluation_set
from training.selection import Selection, select_tasks
from training.tables.task_columns import task_row, task_table
from training.trainer.trainer_check import check_trainer

HELD_OUT_SHARE = 0.25
"""Share of the tasks of a folder that is held out where nothing else decides it."""

_CATEGORY_SHARES = (0.1, 0.4)  # least and most that whole categories may take


class Pools(NamedTuple):
    """The tasks of a run.

    Attributes:
        pool: Scored and trained on.
        held_out: Evaluated on.
        origin: How the held-out tasks were chosen, as a phrase.
        left_out: What is wrong with what was left out.
    """

    pool: Pool
    held_out: Pool
    origin: str
    left_out: tuple[InputError, ...] = ()

    @property
    def shared_categories(self) -> list[str]:
        """Categories on both sides; gains on those may be gains on what was trained."""
        inside = {task.category for task in self.pool if task.category}
        return sorted({task.category for task in self.held_out if task.category} & inside)


def load_pools(config: RunConfig) -> Pools:
    """`read_pools`, when it is checked that a run can go through with them.

    Raises:
        InputError: If a file is faulty, a task is on both sides or has no gold output, or the pool
            is too small for the rounds.
    """
    pools = read_pools(config)
    check_pools(pools, config)
    return pools


def read_pools(config: RunConfig) -> Pools:
    """The pool and the held-out tasks that the config names.

    What runs are compared on (held-out tasks, their instances, validation tasks) is drawn with
    `evaluate.seed`, which tasks of the pool are scored with the run's.

    Raises:
        InputError: If a file is faulty, or there are no two tasks.
    """
    chosen, seed = config.pool, config.evaluate.seed
    options = PoolOptions(
        format=chosen.format,
        columns=chosen.columns,
        split=chosen.split,
        max_instances=chosen.max_instances,
        seed=seed,
    )
    faults = LeftOut() if chosen.skip_faulty else Faults()
    whole = _whole(chosen, options, faults)
    if chosen.held_out == "auto" and chosen.path != BUNDLED:
        pools = split(whole, seed)
    elif chosen.held_out in ("auto", BUNDLED):
        pools = Pools(whole, held_out_pool(), "bundled")
    else:
        held_out = load_pool(
            chosen.held_out, options.model_copy(update={"split": chosen.held_out_split}), faults
        )
        pools = Pools(whole, held_out, chosen.held_out)
    if chosen.skip_faulty:
        pools = _passing(pools, _check_gold, _check_gold, faults)
    left, validation = take_validation(pools.pool, config.train.validation_tasks, seed)
    n_left = None if chosen.max_tasks is None else max(0, chosen.max_tasks - len(validation))
    kept = {task.id for task in (*sample_tasks(left, n_left, config.seed), *validation)}
    return Pools(
        Pool([task for task in pools.pool if task.id in kept], pools.pool.source),
        sample_tasks(pools.held_out, chosen.max_held_out_tasks, seed),
        pools.origin,
        faults.found,
    )


def _whole(chosen: PoolConfig, options: PoolOptions, faults: Faults) -> Pool:
    """The pool that is scored, and held out of where nothing else is."""
    if chosen.held_out in ("auto", BUNDLED):
        if chosen.held_out_split is not None:
            problem = "goes with another pool to hold out; `split` is for the first"
            raise InputError(problem, field="pool.held_out_split")
    elif chosen.path == BUNDLED:  # then format and columns are those of the other
        options = options.model_copy(update={"format": None, "columns": Columns()})
    return load_pool(chosen.path, options, faults)


def leave_out_unfit(pools: Pools, config: RunConfig, builder: PromptBuilder) -> Pools:
    """The pools without what does not fit the model's context, where `pool.skip_faulty` says so.

    Raises:
        InputError: If the rest is too small for the rounds.
    """
    if not config.pool.skip_faulty:
        return pools

    def plan(task: Task, source: str) -> Task:
        if config.select.race is not None:
            return fit_instances(task, config.score, builder, source=source, on_fault=faults.add)
        plan_task(task, config.score, builder)
        return task

    def evaluate(task: Task, _source: str) -> Task:
        build_evaluation_set([task], builder, config.evaluate)
        return task

    faults = LeftOut(pools.left_out)
    fitting = _passing(pools, plan, evaluate, faults)
    check_pools(fitting, config)
    return fitting._replace(left_out=faults.found)


def _passing(
    pools: Pools,
    check: Callable[[Task, str], Task],
    check_held_out: Callable[[Task, str], Task],
    faults: Faults,
) -> Pools:
    """The tasks that the checks make of those on which they raise nothing."""

    def passing(pool: Pool, check: Callable[[Task, str], Task]) -> Pool:
        kept = []
        for task in pool:
            try:
                kept.append(check(task, pool.source))
            except InputError as error:
                record = error.record or task.id
                fault = InputError(
                    error.problem, file=pool.source, record=record, field=error.field
                )
                faults.add(fault)
        return Pool([task for task in kept if task.instances], pool.source)

    pool, held_out = passing(pools.pool, check), passing(pools.held_out, check_held_out)
    return pools._replace(pool=pool, held_out=held_out)


def check_run(config: RunConfig, folder: Path) -> None:
    """Find, before the pools are read, what would stop a run hours later or spoil what it reads.

    Raises:
        InputError: If its folder cannot be written to or is a pool or the model, there is no such
            launcher, or the trainer refuses its arguments.
    """
    chosen = config.pool
    check_folder(folder, (chosen.path, chosen.held_out, config.model.name))
    check_trainer(config.train)


def sample_tasks(pool: Pool, n_tasks: int | None, seed: int) -> Pool:
    """A seeded sample of the tasks, kept in pool order; all of them when `n_tasks` is none."""
    if n_tasks is None or n_tasks >= len(pool):
        return pool
    picked = random.Random(f"pool/{seed}").sample(range(len(pool)), n_tasks)
    return Pool([pool[index] for index in sorted(picked)], pool.source)


def take_validation(pool: Pool, n_tasks: int, seed: int) -> tuple[Pool, Pool]:
    """The pool without a seeded sample of validation tasks, and those, both in pool order.

    The same tasks are drawn of any part of the pool that holds them.
    """
    ids = sorted((task.id for task in pool), key=lambda one: _digest(f"validation/{seed}/{one}"))
    picked = set(ids[:n_tasks])
    inside, outside = (
        [task for task in pool if (task.id in picked) == wanted] for wanted in (True, False)
    )
    return Pool(outside, pool.source), Pool(inside, pool.source)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def draw_initial(pool: Pool, n_tasks: int, seed: int, version: str) -> Selection:
    """A seeded draw of the tasks that are trained on before anything is scored.

    Args:
        pool: Without validation tasks.
        version: The weights that are live.
    """
    ids = [task.id for task in pool]
    candidates = pl.DataFrame({"task_id": ids, "weights_version": [version] * len(ids)})
    return select_tasks(candidates, "random", n_tasks, seed)


def initial_ids(pool: Pool, config: RunConfig) -> tuple[str, ...]:
    """The tasks of that draw; none where a run scores first."""
    n_tasks = config.initial.n_tasks
    return draw_initial(pool, n_tasks, config.seed, "base").task_ids if n_tasks else ()


def split(whole: Pool, seed: int) -> Pools:
    """Hold out a part of a pool.

    The first of these that can be done: the split that comes with Super-NaturalInstructions
    (`splits/default` or `splits` beside the folder, `train_tasks.txt` and `test_tasks.txt`); whole
    categories that make up about a quarter of the tasks; a quarter of the tasks at random.

    Raises:
        InputError: If there is but one task, or the split names a task on both sides.
    """
    if len(whole) < 2:
        raise InputError("needs a second task to hold out", file=whole.source)
    official = official_split(Path(whole.source), [task.id for task in whole])
    if official is not None:
        return Pools(whole.subset(official.train), whole.subset(official.test), official.origin)
    held = _whole_categories(whole, seed)
    origin = "whole categories"
    if not held:
        n_held = max(1, round(HELD_OUT_SHARE * len(whole)))
        held = set(random.Random(f"held-out/{seed}").sample([task.id for task in whole], n_held))
        origin = "drawn at random"
    return Pools(
        Pool([task for task in whole if task.id not in held], whole.source),
        Pool([task for task in whole if task.id in held], whole.source),
        origin,
    )


def _whole_categories(whole: Pool, seed: int) -> set[str]:
    """Ids of the tasks of some categories, seeded; none if no set of them has a sensible size."""
    sizes = Counter(task.category for task in whole if task.category)
    categories = sorted(sizes)
    random.Random(f"held-out/{seed}").shuffle(categories)
    least, most = (share * len(whole) for share in _CATEGORY_SHARES)
    held: set[str] = set()
    count = 0
    for category in categories:
        if count < HELD_OUT_SHARE * len(whole) and count + sizes[category] <= most:
            held.add(category)
            count += sizes[category]
    return {task.id for task in whole if task.category in held} if count >= least else set()


def check_pools(pools: Pools, config: RunConfig) -> None:
    """Find what would stop a run hours later.

    Raises:
        InputError: See `load_pools`.
    """
    pool, held_out = pools.pool, pools.held_out
    needed = config.rounds * config.select.n_tasks
    others = config.initial.n_tasks + config.train.validation_tasks
    if len(pool) < needed + others:
        besides = f" and {others} initial and validation tasks" if others else ""
        raise InputError(
            f"holds {len(pool)} tasks, but {config.rounds} rounds of {config.select.n_tasks} "
            f"selected tasks{besides} need {needed + others}",
            file=pool.source,
            field="select.n_tasks",
        )
    check_supply(pool, config)
    for source in (pool, held_out):
        for task in source:
            _check_gold(task, source.source)
    both = {task.id for task in pool} & {task.id for task in held_out}
    if both:
        problem = "the task is both trained on and held out"
        raise InputError(problem, file=held_out.source, record=min(both))


def check_supply(pool: Pool, config: RunConfig) -> None:
    """That the strategy finds in the pool what it needs in every round, as far as that is certain.

    Args:
        pool: Initial and validation tasks included.

    Raises:
        InputError: If it does not.
    """
    left, _ = take_validation(pool, config.train.validation_tasks, config.evaluate.seed)
    initial = initial_ids(left, config)
    tasks = task_table(task_row(task) for task in left if task.id not in initial)
    try:
        config.select.strategy.check_supply(tasks, config.select.n_tasks, config.rounds)
    except InputError as error:
        raise error.within(pool.source) from error


def _check_gold(task: Task, source: str) -> Task:
    if not any(instance.golds for instance in task.instances):
        raise InputError(
            "no instance has a gold output", file=source, record=task.id, field="outputs"
        )
    return task
