"""What a strategy is: a typed config that knows how to choose."""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import polars as pl

from engine.errors import InputError
from engine.measures.compute import require_column
from engine.protocol.score_config import BASE_MEASURE
from engine.tasks import Record

Direction = Literal["high", "low"]


@dataclass(frozen=True)
class Choice:
    """A task that a strategy takes.

    Attributes:
        task_id: The task.
        value: The finite number it was ranked by, if there is one.
        reason: Why, in words.
        stratum: The group it was taken for, where there are groups.
    """

    task_id: str
    value: float | None
    reason: str
    stratum: str | None = None

    def within(self, stratum: str, prefix: str) -> Choice:
        return replace(self, stratum=stratum, reason=f"{prefix}: {self.reason}")


@dataclass(frozen=True)
class Draw:
    """What a strategy chooses from.

    Attributes:
        candidates: One row per task, sorted by `task_id`, with the columns of `scores.parquet`.
        n: How many to take; at most as many as there are candidates.
        seed: Of every random choice.
        forced: Rows of the tasks that are taken already.
    """

    candidates: pl.DataFrame
    n: int
    seed: int
    forced: pl.DataFrame


class Strategy(Record, ABC):
    """A rule for choosing tasks; its fields are its settings, and unknown ones are errors.

    A strategy of one's own is a subclass with a field `name: Literal["my_name"] = "my_name"`,
    offered as an entry point of the group `jostle.strategies`.

    Attributes:
        summary: What it does, in a line.
        measure: What the scores must have been measured with; prompt uncertainty always is.
        name: Its full name.
    """

    summary: ClassVar[str]
    measure: ClassVar[str] = BASE_MEASURE
    name: str

    def columns(self) -> tuple[str, ...]:
        """Columns of the scores that it goes by."""
        return ()

    def needs(self) -> tuple[str, ...]:
        """Columns of which a task must have all values to be taken."""
        return (self.measure,)

    def check_supply(self, tasks: pl.DataFrame, n: int, rounds: int) -> None:
        """That tasks known before any is scored last for some rounds, as far as that is certain.

        Args:
            tasks: `task_id` and `training.tables.task_columns.TASK_COLUMNS`.
            n: Tasks taken in a round.

        Raises:
            InputError: If they cannot.
        """
        return

    @abstractmethod
    def choose(self, draw: Draw) -> list[Choice]:
        """The tasks taken, first choice first: candidates, none twice, `draw.n` at most.

        Equal settings, seed and scores give equal choices; tasks that are equal in everything else
        come in the order of their ids.

        Raises:
            InputError: If the scores lack what it needs.
        """


def measured_for(scores: pl.DataFrame, strategy: Strategy) -> pl.DataFrame:
    """The tasks that have what a strategy ranks by."""
    return scores.drop_nulls([name for name in strategy.needs() if name in scores.columns])


def numbers(scores: pl.DataFrame, column: str) -> list[float]:
    """A column as finite numbers.

    Raises:
        InputError: If it is missing, or holds something else.
    """
    require_column(scores, column)
    if not scores.schema[column].is_numeric():
        raise InputError(f"holds {scores.schema[column]}, not numbers", field=column)
    values: list[float | None] = scores[column].to_list()
    for task_id, value in zip(scores["task_id"], values, strict=True):
        if value is None or not math.isfinite(value):
            raise InputError("the score is not a number", record=task_id, field=column)
    return [float(value) for value in values if value is not None]


def ranked(scores: pl.DataFrame, column: str, direction: Direction) -> list[tuple[str, float]]:
    """(task id, value), the wanted end first, equal values in the order of task ids."""
    pairs = zip(scores["task_id"].to_list(), numbers(scores, column), strict=True)
    sign = -1 if direction == "high" else 1
    return sorted(pairs, key=lambda pair: (sign * pair[1], pair[0]))


def drawn(task_ids: Sequence[str], seed: int, purpose: str = "select") -> list[str]:
    """Task ids in random order.

    A task's place depends on the seed and its id alone: one more task changes no other's order.
    """
    return sorted(
        task_ids,
        key=lambda task_id: (random.Random(f"{purpose}/{seed}/{task_id}").random(), task_id),
    )


def largest_remainder(shares: Sequence[float], n: int) -> list[int]:
    """`n` parted by shares that sum to 1: whole parts first, the rest by largest remainder.

    Each part is its share of `n` rounded up or down, and they sum to `n`. Of equal remainders the
    earlier one wins.
    """
    exact = [share * n for share in shares]
    # 0.3 * 10 is a hair below 3 in floating point.
    counts = [math.floor(value + 1e-9) for value in exact]
    order = sorted(
        range(len(shares)), key=lambda index: (-round(exact[index] - counts[index], 9), index)
    )
    for index in order[: n - sum(counts)]:
        counts[index] += 1
    return counts
