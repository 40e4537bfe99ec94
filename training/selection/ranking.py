"""Strategies that put all tasks into one order and take the first ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import polars as pl
from pydantic import Field

from engine.measures.compute import require_column
from training.selection.strategy import (
    Choice,
    Direction,
    Draw,
    Strategy,
    drawn,
    ranked,
)


class Ranking(Strategy):
    """Base of those that rank by a column.

    Attributes:
        direction: Which end comes first.
    """

    direction: Direction = "high"

    def choose(self, draw: Draw) -> list[Choice]:
        column, title = self.ranks_by()
        end = "from the top" if self.direction == "high" else "from the bottom"
        order = ranked(draw.candidates, column, self.direction)
        return [
            Choice(task_id, value, f"{title} {value:.4g}, rank {rank} of {len(order)} {end}")
            for rank, (task_id, value) in enumerate(order[: draw.n], start=1)
        ]

    def columns(self) -> tuple[str, ...]:
        return (self.ranks_by()[0],)

    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.measure, *self.columns())))

    def ranks_by(self) -> tuple[str, str]:
        """The column, and what it is called in words; the strategy's name unless it says."""
        return self.name, self.name.replace("_", " ")


class PromptUncertainty(Ranking):
    """The tasks of highest prompt uncertainty (Kung et al., 2023, section 3.1), or of lowest."""

    summary: ClassVar[str] = "highest (or lowest) prompt uncertainty first, as the paper does"
    name: Literal["prompt_uncertainty"] = "prompt_uncertainty"


class FlipRate(Ranking):
    """The tasks whose greedy answer changes most, or least, often with the prompt."""

    summary: ClassVar[str] = "highest (or lowest) share of prompts with another greedy answer first"
    name: Literal["flip_rate"] = "flip_rate"


class OutputDisagreement(Ranking):
    """The tasks whose sampled outputs differ most, or least, between prompts."""

    summary: ClassVar[str] = "highest (or lowest) disagreement of sampled outputs first"
    measure: ClassVar[str] = "output_disagreement"
    name: Literal["output_disagreement"] = "output_disagreement"


class LabelBald(Ranking):
    """The classifications whose label depends most, or least, on the prompt."""

    summary: ClassVar[str] = "highest (or lowest) mutual information of label and prompt first"
    measure: ClassVar[str] = "label_bald"
    name: Literal["label_bald"] = "label_bald"

    def ranks_by(self) -> tuple[str, str]:
        return "label_bald", "mutual information of label and prompt"


class Perplexity(Ranking):
    """The tasks of highest or lowest perplexity, the baselines of Kung et al. (2023)."""

    summary: ClassVar[str] = "highest (or lowest) perplexity of the model's own output first"
    name: Literal["perplexity"] = "perplexity"


class InstructionFollowingDifficulty(Ranking):
    """The gold outputs that their prompt helps least, as Li et al. (2024) choose data.

    Attributes:
        most: Where the ratio is higher the prompt misleads; these are left out.
    """

    summary: ClassVar[str] = "highest (or lowest) instruction-following difficulty (IFD) below 1"
    measure: ClassVar[str] = "instruction_following_difficulty"
    name: Literal["instruction_following_difficulty"] = "instruction_following_difficulty"
    most: float = 1.0

    def choose(self, draw: Draw) -> list[Choice]:
        """The first tasks of those that are no higher."""
        column, _ = self.ranks_by()
        require_column(draw.candidates, column)
        kept = draw.candidates.filter(pl.col(column) <= self.most)
        return super().choose(replace(draw, candidates=kept))


class Column(Ranking):
    """The tasks with the highest or lowest value of any column, such as another measure.

    Attributes:
        column: Name of a column of numbers.
    """

    summary: ClassVar[str] = "highest (or lowest) value of any column of numbers first"
    name: Literal["column"] = "column"
    column: Annotated[str, Field(min_length=1)]

    def ranks_by(self) -> tuple[str, str]:
        return self.column, self.column


class Random(Strategy):
    """A random choice, every task being as likely as any other."""

    summary: ClassVar[str] = "every task as likely as any other"
    name: Literal["random"] = "random"

    def choose(self, draw: Draw) -> list[Choice]:
        order = drawn(draw.candidates["task_id"].to_list(), draw.seed)
        return [
            Choice(task_id, None, f"draw {rank} of {len(order)} candidates")
            for rank, task_id in enumerate(order[: draw.n], start=1)
        ]


def without(scores: pl.DataFrame, choices: list[Choice]) -> pl.DataFrame:
    """The rows of tasks that are not among the choices."""
    return scores.filter(~pl.col("task_id").is_in([choice.task_id for choice in choices]))
