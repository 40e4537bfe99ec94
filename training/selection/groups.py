"""Strategies that choose within groups of tasks, or hand parts of the choice to others."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated, ClassVar, Literal, Self

import polars as pl
from pydantic import Field, model_validator

from engine.errors import InputError
from engine.measures.compute import require_column
from engine.tasks import Record
from training.selection.ranking import PromptUncertainty, Random, without
from training.selection.strategy import (
    Choice,
    Draw,
    Strategy,
    drawn,
    largest_remainder,
    measured_for,
)
from training.selection.strategy_registry import AnyStrategy

Share = Annotated[float, Field(ge=0, le=1)]


class MapCategory(Strategy):
    """Tasks of one category of the task map (Kung et al., 2023, section 5).

    Attributes:
        category: Which.
        within: How they are chosen among those of the category.
    """

    summary: ClassVar[str] = "tasks of one map category: ambiguous, easy or difficult"
    name: Literal["map_category"] = "map_category"
    category: Literal["ambiguous", "easy", "difficult"]
    within: AnyStrategy = Random()

    def needs(self) -> tuple[str, ...]:
        return _needs(self, self.within)

    def choose(self, draw: Draw) -> list[Choice]:
        groups = group_labels(draw.candidates, "map_category")
        return _choose_within(draw, groups, self.category, draw.n, self.within)


class PerCategory(Strategy):
    """As many tasks of each category as of any other, as far as they last.

    Which categories get one more, where the number does not divide evenly, is drawn.

    Attributes:
        column: The column that holds the category.
        within: How tasks are chosen within a category.
    """

    summary: ClassVar[str] = "equally many tasks of each category, drawn within it"
    name: Literal["per_category"] = "per_category"
    column: Annotated[str, Field(min_length=1)] = "category"
    within: AnyStrategy = Random()

    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    def needs(self) -> tuple[str, ...]:
        return _needs(self, self.within)

    def choose(self, draw: Draw) -> list[Choice]:
        groups = group_labels(draw.candidates, self.column)
        room = Counter(groups.to_list())
        held = Counter(group_labels(draw.forced, self.column).to_list())
        order = drawn(list(room), draw.seed, "category")
        while True:
            taken: Counter[str] = Counter()
            for _ in range(min(draw.n, room.total())):
                # The group that has least so far and has some left; of equals the first drawn.
                open_ = [name for name in order if taken[name] < room[name]]
                taken[min(open_, key=lambda name: held[name] + taken[name])] += 1
            chosen = {
                name: _choose_within(draw, groups, name, taken[name], self.within) for name in order
            }
            short = {name: len(found) for name, found in chosen.items() if len(found) < taken[name]}
            if not short:
                return [choice for found in chosen.values() for choice in found]
            room = Counter({**room, **short})  # `within` leaves out the others


class Stratified(Strategy):
    """A fixed share of the choice for each value of a column.

    The numbers are the shares of the whole choice rounded by largest remainder, forced tasks
    counting for their strata.

    Attributes:
        column: The column.
        shares: Value of the column, written out, to its share; they sum to 1. `true` and `false`
            for a column of truth values, `none` where there is no value.
        within: How tasks are chosen within a stratum.
        when_short: What happens where a stratum has too few tasks, or `within` takes too few of
            them: an error, or `refill`: the missing ones are taken from the other strata.
    """

    summary: ClassVar[str] = "a fixed share for each value of any column, exact to the task"
    name: Literal["stratified"] = "stratified"
    column: Annotated[str, Field(min_length=1)]
    shares: Annotated[dict[str, Share], Field(min_length=1)]
    within: AnyStrategy = PromptUncertainty()
    when_short: Literal["error", "refill"] = "error"

    @model_validator(mode="after")
    def _sum_to_one(self) -> Self:
        _check_shares(self.shares.values())
        return self

    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    def needs(self) -> tuple[str, ...]:
        return _needs(self, self.within)

    def choose(self, draw: Draw) -> list[Choice]:
        groups = group_labels(draw.candidates, self.column)
        choices: list[Choice] = []
        for name, quota in self._quotas(draw, groups).items():
            found = _choose_within(draw, groups, name, quota, self.within)
            if self.when_short == "error" and len(found) < quota:
                raise InputError(
                    f"of the stratum {name!r} {quota} tasks are to be taken, and "
                    f"{self.within.name} takes {len(found)} of {(groups == name).sum()}; "
                    "when_short = 'refill' takes others in their place",
                    field=self.column,
                )
            choices += found
        if len(choices) < draw.n:  # only under `refill`
            rest = without(draw.candidates, choices)
            more = self.within.choose(replace(draw, candidates=rest, n=draw.n - len(choices)))
            choices += [replace(each, reason=f"refill: {each.reason}") for each in more]
        return choices

    def check_supply(self, tasks: pl.DataFrame, n: int, rounds: int) -> None:
        if self.when_short == "refill" or self.column not in tasks.columns:
            return
        room = Counter(group_labels(tasks, self.column).to_list())
        counts = largest_remainder(list(self.shares.values()), n)
        for name, count in zip(self.shares, counts, strict=True):
            if count * rounds > room[name]:
                raise InputError(
                    f"the stratum {name!r} is to have {count} of {n} tasks in each of {rounds} "
                    f"rounds, and {room[name]} there are to select from; when_short = 'refill' "
                    "takes others in their place",
                    field="select.strategy",
                )

    def _quotas(self, draw: Draw, groups: pl.Series) -> dict[str, int]:
        room = Counter(groups.to_list())
        held = Counter(group_labels(draw.forced, self.column).to_list())
        total = draw.n + draw.forced.height
        counts = largest_remainder(list(self.shares.values()), total)
        quotas = {}
        for name, count in zip(self.shares, counts, strict=True):
            there = room[name] + held[name]
            if self.when_short == "error" and not held[name] <= count <= there:
                valid = ", ".join(f"{value} ({number})" for value, number in sorted(room.items()))
                raise InputError(
                    f"the stratum {name!r} is to have {count} of {total} tasks; {held[name]} are "
                    f"forced, {there} there are in all; values (and tasks): {valid}",
                    field=self.column,
                )
            quotas[name] = max(0, min(count, there) - held[name])
        outside = held.total() - sum(held[name] for name in self.shares)
        if self.when_short == "error" and outside:
            raise InputError(f"{outside} forced tasks belong to no stratum", field=self.column)
        # Forced tasks may hold more than their stratum's quota; the others then give way.
        while sum(quotas.values()) > draw.n:
            quotas[max(quotas, key=lambda name: quotas[name])] -= 1
        return quotas


class ClassificationShare(Strategy):
    """A fixed share of classifications; the authors' own choice of tasks held 35.6 % of them.

    Attributes:
        share: Share of tasks whose column `classification` is true.
        within: How tasks are chosen within classifications, and within the others.
        when_short: See `Stratified`.
    """

    summary: ClassVar[str] = "a fixed share of classifications, 0.356 as the authors have"
    name: Literal["classification_share"] = "classification_share"
    share: Share = 0.356
    within: AnyStrategy = PromptUncertainty()
    when_short: Literal["error", "refill"] = "error"

    def needs(self) -> tuple[str, ...]:
        return _needs(self, self.within)

    def choose(self, draw: Draw) -> list[Choice]:
        return self._strata().choose(draw)

    def check_supply(self, tasks: pl.DataFrame, n: int, rounds: int) -> None:
        self._strata().check_supply(tasks, n, rounds)

    def _strata(self) -> Stratified:
        return Stratified(
            column="classification",
            shares={"true": self.share, "false": 1 - self.share},
            within=self.within,
            when_short=self.when_short,
        )


class MixPart(Record):
    """A strategy and its share of the choice."""

    share: Annotated[float, Field(gt=0, le=1)]
    strategy: AnyStrategy


class Mix(Strategy):
    """Several strategies, each choosing its share from what those before it have left.

    A part that runs short leaves its places to the parts after it.

    Attributes:
        parts: The strategies; their shares sum to 1.
    """

    summary: ClassVar[str] = "several strategies, each with its share"
    name: Literal["mix"] = "mix"
    parts: Annotated[tuple[MixPart, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _sum_to_one(self) -> Self:
        _check_shares(part.share for part in self.parts)
        return self

    def check_supply(self, tasks: pl.DataFrame, n: int, rounds: int) -> None:
        counts = largest_remainder([part.share for part in self.parts], n)
        for part, count in zip(self.parts, counts, strict=True):
            part.strategy.check_supply(tasks, count, rounds)

    def choose(self, draw: Draw) -> list[Choice]:
        choices: list[Choice] = []
        due = 0
        counts = largest_remainder([part.share for part in self.parts], draw.n)
        for part, count in zip(self.parts, counts, strict=True):
            due += count
            rest = measured_for(without(draw.candidates, choices), part.strategy)
            wanted = min(due - len(choices), rest.height)
            # Forced tasks belong to the whole mix and to none of its parts.
            inner = Draw(rest, wanted, draw.seed, draw.forced.clear())
            name = part.strategy.name
            choices += [
                replace(each, reason=f"{name}: {each.reason}")
                for each in (part.strategy.choose(inner) if wanted else ())
            ]
        return choices


def _check_shares(shares: Iterable[float]) -> None:
    total = math.fsum(shares)
    if abs(total - 1) > 1e-6:
        raise ValueError(f"the shares sum to {total:g}, not to 1")


def group_labels(scores: pl.DataFrame, column: str) -> pl.Series:
    """The values of a column, written out; `none` where there is none."""
    require_column(scores, column)
    return scores[column].cast(pl.String).fill_null("none")


def _needs(strategy: Strategy, within: Strategy) -> tuple[str, ...]:
    return tuple(dict.fromkeys((strategy.measure, *within.needs())))


def _choose_within(
    draw: Draw, groups: pl.Series, name: str, n: int, within: Strategy
) -> list[Choice]:
    """Up to `n` tasks of one group."""
    members = draw.candidates.filter(groups == name)
    n = min(n, members.height)
    if n == 0:
        return []
    inner = Draw(members, n, draw.seed, draw.forced.clear())
    return [choice.within(name, name) for choice in within.choose(inner)]
