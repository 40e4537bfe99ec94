"""The tasks of a run: the pool that is trained on and the tasks that are held out."""

from __future__ import annotations

import random
from pathlib import Path

from engine.errors import InputError
from engine.pools.bundled import held_out_pool, training_pool
from engine.pools.niv2 import load_niv2
from engine.tasks import Pool, Task
from training.config import RunConfig

BUNDLED = "bundled"
HELD_OUT_SHARE = 0.25
"""Share of the tasks that `auto` sets aside, at least; whole categories, so it may be more."""


def load_pools(config: RunConfig) -> tuple[Pool, Pool]:
    """The pool and the held-out tasks.

    Raises:
        InputError: If a file is faulty, pool and held-out tasks share a task or a category, a task
            has no instance with a gold output, or the pool is too small for the rounds.
    """
    chosen = config.pool
    held_out_name = chosen.held_out
    if held_out_name == "auto" and chosen.path == BUNDLED:
        held_out_name = BUNDLED
    pool = training_pool() if chosen.path == BUNDLED else load_niv2(Path(chosen.path))
    if held_out_name == "auto":
        pool, held_out = split_by_category(pool, config.seed)
    elif held_out_name == BUNDLED:
        held_out = held_out_pool()
    else:
        held_out = load_niv2(Path(held_out_name))
    pool = sample_tasks(pool, chosen.max_tasks, config.seed)
    held_out = sample_tasks(held_out, chosen.max_held_out_tasks, config.seed)
    check_pools(pool, held_out, config)
    return pool, held_out


def sample_tasks(pool: Pool, n_tasks: int | None, seed: int) -> Pool:
    """A seeded sample of the tasks, kept in pool order; all of them when `n_tasks` is none."""
    if n_tasks is None or n_tasks >= len(pool):
        return pool
    picked = random.Random(f"pool/{seed}").sample(range(len(pool)), n_tasks)
    return Pool([pool[index] for index in sorted(picked)], pool.source)


def split_by_category(pool: Pool, seed: int) -> tuple[Pool, Pool]:
    """Set whole categories aside until they hold `HELD_OUT_SHARE` of the tasks.

    Raises:
        InputError: If the tasks are of fewer than two categories.
    """
    categories = sorted({task.category or "" for task in pool})
    if len(categories) < 2:
        raise InputError(
            "all tasks are of one category, so none can be held out; name a folder of other tasks",
            file=pool.source,
            field="pool.held_out",
        )
    random.Random(f"held-out/{seed}").shuffle(categories)
    held: set[str] = set()
    for category in categories[:-1]:
        held.add(category)
        count = sum((task.category or "") in held for task in pool)
        if count >= HELD_OUT_SHARE * len(pool):
            break
    inside = [task for task in pool if (task.category or "") not in held]
    outside = [task for task in pool if (task.category or "") in held]
    return Pool(inside, pool.source), Pool(outside, pool.source)


def check_pools(pool: Pool, held_out: Pool, config: RunConfig) -> None:
    """Find what would stop a run hours later.

    Raises:
        InputError: See `load_pools`.
    """
    needed = config.rounds * config.select.n_tasks
    if len(pool) < needed:
        raise InputError(
            f"holds {len(pool)} tasks, but {config.rounds} rounds of {config.select.n_tasks} "
            f"selected tasks need {needed}",
            file=pool.source,
            field="select.n_tasks",
        )
    for task in (*pool, *held_out):
        _check_gold(task, pool.source)
    shared = {task.id for task in pool} & {task.id for task in held_out}
    if shared:
        problem = "the task is both trained on and held out"
        raise InputError(problem, file=held_out.source, record=min(shared))
    categories = {task.category for task in pool if task.category}
    for task in held_out:
        if task.category in categories:
            raise InputError(
                f"the held-out task shares category {task.category!r} with the pool",
                file=held_out.source,
                record=task.id,
                field="category",
            )


def _check_gold(task: Task, source: str) -> None:
    if not any(any(instance.outputs) for instance in task.instances):
        raise InputError(
            "no instance has a gold output", file=source, record=task.id, field="outputs"
        )
