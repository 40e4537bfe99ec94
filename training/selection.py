"""Selection strategies: which scored tasks are trained on next.

A strategy is a small function with a full name and a declared direction. It reads a frame of scores
(one row per task, in pool order, the columns of `scores.parquet`) and gives every task a key; the
tasks with the largest keys are selected, and equal keys keep the order of the pool. The keys and
the reasons go into `selection.json`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

from engine.errors import InputError
from engine.tasks import Record


class SelectedTask(Record):
    """Why a task was taken.

    Attributes:
        task_id: The task.
        rank: 1 is the first choice.
        value: The number the strategy ranked by.
        reason: The same in words.
    """

    task_id: str
    rank: int
    value: float
    reason: str


class Selection(Record):
    """Content of `selection.json`.

    Attributes:
        strategy: Name of the strategy.
        column: The score it ranks by; `random` uses none.
        direction: `high` or `low` values first, or `none`.
        seed: Seed of the draw, where there is one.
        n_candidates: Tasks that could have been taken.
        weights_version: The weights the scores were computed with.
        tasks: The selected tasks, first choice first.
    """

    strategy: str
    column: str | None
    direction: str
    seed: int
    n_candidates: int
    weights_version: str
    tasks: tuple[SelectedTask, ...]

    @property
    def task_ids(self) -> tuple[str, ...]:
        """Ids of the selected tasks, first choice first."""
        return tuple(task.task_id for task in self.tasks)


@dataclass(frozen=True)
class Strategy:
    """A named rule.

    Attributes:
        name: Full name, as the config gives it.
        column: The score it needs, or none.
        direction: `high`, `low` or `none`.
        keys: From the scores and a seed, one key per row; larger keys are taken first.
        explain: From rank (1 is first), number of candidates and value, a phrase for a person.
    """

    name: str
    column: str | None
    direction: str
    keys: Callable[[pl.DataFrame, int], Sequence[float]]
    explain: Callable[[int, int, float], str]


def _column_high(name: str, column: str, title: str) -> Strategy:
    return Strategy(
        name=name,
        column=column,
        direction="high",
        keys=lambda scores, _seed: scores[column].to_list(),
        explain=lambda rank, n, value: f"{title} {value:.4f}, rank {rank} of {n} from the top",
    )


def _random_keys(scores: pl.DataFrame, seed: int) -> list[float]:
    # The key depends on seed and task alone: a task added to the pool changes no other task's key.
    return [random.Random(f"select/{seed}/{task}").random() for task in scores["task_id"].to_list()]


STRATEGIES: dict[str, Strategy] = {
    strategy.name: strategy
    for strategy in (
        # Kung et al. (2023), section 3.1: the tasks of highest prompt uncertainty.
        _column_high("prompt_uncertainty", "prompt_uncertainty", "prompt uncertainty"),
        Strategy(
            name="random",
            column=None,
            direction="none",
            keys=_random_keys,
            explain=lambda rank, n, _value: f"draw {rank} of {n} candidates",
        ),
    )
}
"""All strategies by name."""


def find_strategy(name: str, file: object | None = None) -> Strategy:
    """The strategy of this name.

    Raises:
        InputError: If there is none; the message lists the valid names.
    """
    if name not in STRATEGIES:
        raise InputError(
            f"no strategy is called {name!r}; valid: {', '.join(sorted(STRATEGIES))}",
            file=file,
            field="select.strategy",
        )
    return STRATEGIES[name]


def select_tasks(scores: pl.DataFrame, strategy_name: str, n_tasks: int, seed: int) -> Selection:
    """Choose tasks.

    Args:
        scores: One row per candidate, in pool order, with the columns of `scores.parquet`.
        strategy_name: A key of `STRATEGIES`.
        n_tasks: How many to take; all candidates when there are fewer.
        seed: For strategies that draw.

    Raises:
        InputError: If the strategy is unknown, there is no candidate, or a score is not a number.
    """
    strategy = find_strategy(strategy_name)
    if scores.is_empty():
        raise InputError("no task is left to select from", field="task_id")
    keys = strategy.keys(scores, seed)
    ids: list[str] = scores["task_id"].to_list()
    for task_id, key in zip(ids, keys, strict=True):
        if key is None or not math.isfinite(key):
            raise InputError("the score is not a number", record=task_id, field=strategy.column)
    # sorted() is stable, so equal keys stay in pool order.
    order = sorted(range(len(ids)), key=lambda index: -keys[index])[:n_tasks]
    return Selection(
        strategy=strategy.name,
        column=strategy.column,
        direction=strategy.direction,
        seed=seed,
        n_candidates=len(ids),
        weights_version=scores["weights_version"][0],
        tasks=tuple(
            SelectedTask(
                task_id=ids[index],
                rank=rank,
                value=keys[index],
                reason=strategy.explain(rank, len(ids), keys[index]),
            )
            for rank, index in enumerate(order, start=1)
        ),
    )
