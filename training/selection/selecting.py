"""The selection itself: a strategy, tasks that must be in it, and tasks that must not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import polars as pl

from engine.errors import InputError
from engine.measures.compute import check_scores
from engine.protocol.score_config import BASE_MEASURE
from training.selection.selection_record import SelectedTask, Selection
from training.selection.strategy import Choice, Draw, Strategy
from training.selection.strategy_registry import parse_strategy


def select(
    scores: pl.DataFrame,
    strategy: Strategy,
    n_tasks: int,
    seed: int = 0,
    *,
    forced: Sequence[str] = (),
    excluded: Sequence[str] = (),
) -> Selection:
    """Choose tasks, among those alone whose prompt uncertainty could be measured.

    A strategy that goes by another column of numbers chooses among those that have it.

    Args:
        scores: One row per task, in any order, with the columns of `scores.parquet`.
        n_tasks: How many to take, forced ones included; all candidates when there are fewer.
        seed: For strategies that draw.
        forced: Ids of tasks that are taken in any case, before all others, in this order.
        excluded: Ids of tasks that are not taken; such as are not scored are noted.

    Raises:
        InputError: If there is no candidate that could be measured, the scores are of several
            weights or name a task twice, forced tasks are not scored, excluded as well or too many,
            or the scores lack what the strategy needs, or it takes none.
    """
    _check(scores, n_tasks, forced, excluded)
    scores = scores.sort("task_id")
    task_id = pl.col("task_id")
    held = scores.filter(task_id.is_in(list(forced)))
    open_ = scores.filter(~task_id.is_in([*forced, *excluded]))
    unmeasurable: dict[str, list[str]] = {}
    for column in strategy.needs():
        if column in open_.columns and (null := open_.filter(pl.col(column).is_null())).height:
            unmeasurable[column] = null["task_id"].to_list()
            open_ = open_.drop_nulls(column)
    if not held.height + open_.height:
        raise InputError("no task that could be measured is left", field=[*unmeasurable][-1])
    n_open = min(n_tasks - held.height, open_.height)
    choices: list[Choice] = []
    if n_open > 0:
        choices = strategy.choose(Draw(open_, n_open, seed, held))
        _check_choices(strategy, choices, set(open_["task_id"]), n_open, held.height)
    scored = set(scores["task_id"])
    return Selection(
        strategy=strategy.name,
        settings=strategy.model_dump(mode="json"),
        seed=seed,
        n_asked=n_tasks,
        n_candidates=open_.height + held.height,
        excluded=tuple(sorted(set(excluded) & scored)),
        weights_version=scores["weights_version"][0],
        notes=_notes(n_tasks, held.height + len(choices), set(excluded) - scored, unmeasurable),
        tasks=_tasks(forced, choices),
    )


def select_tasks(scores: pl.DataFrame, strategy_name: str, n_tasks: int, seed: int) -> Selection:
    """`select` with the named strategy as it is by default.

    Raises:
        InputError: As `select`, or if the strategy is unknown or has no default settings.
    """
    return select(scores, parse_strategy(strategy_name), n_tasks, seed)


def _check(
    scores: pl.DataFrame, n_tasks: int, forced: Sequence[str], excluded: Sequence[str]
) -> None:
    check_scores(scores, ("task_id", "weights_version"))
    if n_tasks < 1:
        raise InputError("take at least one task", field="n_tasks")
    if scores["weights_version"].n_unique() > 1:
        raise InputError("rows of several weights", field="weights_version")
    scored = set(scores["task_id"])
    for task_id in forced:
        if task_id not in scored:
            raise InputError("is forced and not scored", record=task_id)
        if task_id in excluded:
            raise InputError("is forced and excluded", record=task_id)
    if len(set(forced)) < len(forced):
        raise InputError("a forced task is named twice", field="forced")
    if len(forced) > n_tasks:
        problem = f"{len(forced)} tasks are forced, {n_tasks} are to be taken"
        raise InputError(problem, field="forced")
    if not scored - set(excluded):
        raise InputError("no task is left to select from", field="task_id")


def _check_choices(
    strategy: Strategy, choices: Sequence[Choice], candidates: set[str], n: int, n_forced: int
) -> None:
    """That there are any, and what any strategy promises; those of other packages may break it."""
    if not choices and not n_forced:
        raise InputError("the strategy takes none of the tasks", record=strategy.name)
    ids = [choice.task_id for choice in choices]
    problem = None
    if len(set(ids)) < len(ids):
        problem = "took a task twice"
    elif not set(ids) <= candidates:
        problem = f"took {min(set(ids) - candidates)!r}, which is no candidate"
    elif len(ids) > n:
        problem = f"took {len(ids)} tasks in the place of {n}"
    elif any(each.value is not None and not math.isfinite(each.value) for each in choices):
        problem = "ranked by a value that is no finite number"
    if problem:
        raise InputError(f"the strategy {problem}", record=strategy.name)


def _notes(
    n_asked: int, n_taken: int, unknown: set[str], unmeasurable: Mapping[str, Sequence[str]]
) -> tuple[str, ...]:
    notes = []
    for column, ids in unmeasurable.items():
        why = ", for no perturbed prompt differs from the original"
        notes.append(
            f"{len(ids)} tasks were left out, such as {ids[0]}: their "
            f"{column.replace('_', ' ')} could not be measured"
            f"{why if column == BASE_MEASURE else ''}"
        )
    if n_taken < n_asked:
        notes.append(f"{n_taken} tasks were taken, {n_asked} asked for: there are no more")
    if unknown:
        notes.append(f"{len(unknown)} excluded tasks are not scored, such as {min(unknown)}")
    return tuple(notes)


def _tasks(forced: Sequence[str], choices: Sequence[Choice]) -> tuple[SelectedTask, ...]:
    first = [
        SelectedTask(task_id=task_id, rank=rank, value=None, reason="forced", forced=True)
        for rank, task_id in enumerate(forced, start=1)
    ]
    others = [
        SelectedTask(rank=rank, **asdict(choice))
        for rank, choice in enumerate(choices, start=len(first) + 1)
    ]
    return (*first, *others)
