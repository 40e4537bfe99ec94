"""The tasks of a run: the pool that is trained on and the tasks that are held out."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from engine.errors import InputError
from engine.pools.bundled import held_out_pool, training_pool
from engine.pools.niv2 import load_niv2
from engine.tasks import Pool, Task
from training.config import RunConfig

BUNDLED = "bundled"
HELD_OUT_SHARE = 0.25
"""Share of the tasks of a folder that is held out where nothing else decides it."""

_CATEGORY_SHARES = (0.1, 0.4)  # least and most that whole categories may take


class Pools(NamedTuple):
    """The tasks of a run.

    Attributes:
        pool: Scored and trained on.
        held_out: Evaluated on.
        origin: How the held-out tasks were chosen, as a phrase.
    """

    pool: Pool
    held_out: Pool
    origin: str

    @property
    def shared_categories(self) -> list[str]:
        """Categories on both sides; gains on those may be gains on what was trained."""
        inside = {task.category for task in self.pool if task.category}
        return sorted({task.category for task in self.held_out if task.category} & inside)


def load_pools(config: RunConfig) -> Pools:
    """The pool and the held-out tasks that the config names.

    Raises:
        InputError: If a file is faulty, a task is on both sides or has no gold output, or the pool
            is too small for the rounds.
    """
    chosen = config.pool
    whole = training_pool() if chosen.path == BUNDLED else load_niv2(Path(chosen.path))
    if chosen.held_out == "auto" and chosen.path != BUNDLED:
        pools = split(whole, config.seed)
    elif chosen.held_out in ("auto", BUNDLED):
        pools = Pools(whole, held_out_pool(), "bundled")
    else:
        pools = Pools(whole, load_niv2(Path(chosen.held_out)), chosen.held_out)
    sampled = Pools(
        sample_tasks(pools.pool, chosen.max_tasks, config.seed),
        sample_tasks(pools.held_out, chosen.max_held_out_tasks, config.seed),
        pools.origin,
    )
    check_pools(sampled, config)
    return sampled


def sample_tasks(pool: Pool, n_tasks: int | None, seed: int) -> Pool:
    """A seeded sample of the tasks, kept in pool order; all of them when `n_tasks` is none."""
    if n_tasks is None or n_tasks >= len(pool):
        return pool
    picked = random.Random(f"pool/{seed}").sample(range(len(pool)), n_tasks)
    return Pool([pool[index] for index in sorted(picked)], pool.source)


def split(whole: Pool, seed: int) -> Pools:
    """Hold out a part of a folder of tasks.

    The first of these that can be done: the split that comes with Super-NaturalInstructions
    (`splits/default` or `splits` beside the folder, `train_tasks.txt` and `test_tasks.txt`); whole
    categories that make up about a quarter of the tasks; a quarter of the tasks at random.

    Raises:
        InputError: If there is but one task.
    """
    if len(whole) < 2:
        raise InputError("needs a second task to hold out", file=whole.source)
    beside = Path(whole.source).resolve().parent / "splits"
    for folder in (beside / "default", beside):
        train, test = (_listed(folder / f"{part}_tasks.txt", whole) for part in ("train", "test"))
        if train and test:
            return Pools(whole.subset(train), whole.subset(test), f"the split in {folder}")
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


def _listed(path: Path, whole: Pool) -> list[str]:
    """Those of the pool's tasks that a split file names, in the order of the pool."""
    if not path.is_file():
        return []
    names = set(path.read_text(encoding="utf-8").split())
    return [task.id for task in whole if task.id in names]


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
    pool, held_out, _ = pools
    needed = config.rounds * config.select.n_tasks
    if len(pool) < needed:
        raise InputError(
            f"holds {len(pool)} tasks, but {config.rounds} rounds of {config.select.n_tasks} "
            f"selected tasks need {needed}",
            file=pool.source,
            field="select.n_tasks",
        )
    for source in (pool, held_out):
        for task in source:
            _check_gold(task, source.source)
    both = {task.id for task in pool} & {task.id for task in held_out}
    if both:
        problem = "the task is both trained on and held out"
        raise InputError(problem, file=held_out.source, record=min(both))


def _check_gold(task: Task, source: str) -> None:
    if not any(any(instance.outputs) for instance in task.instances):
        raise InputError(
            "no instance has a gold output", file=source, record=task.id, field="outputs"
        )
