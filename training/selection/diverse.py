"""Uncertain tasks that are unlike each other: maximal marginal relevance."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from engine.errors import InputError
from engine.measures.compute import require_column
from training.selection.similarity import NgramVectors
from training.selection.strategy import Choice, Direction, Draw, Strategy, numbers


class Diverse(Strategy):
    """A score traded against the similarity of definitions.

    One task after the other, the one with the largest
    `trade_off * relevance - (1 - trade_off) * (largest similarity to a task already taken)`
    (maximal marginal relevance; Carbonell and Goldstein, 1998). Relevance is the column scaled to
    [0, 1] over the candidates, similarity the cosine of the definitions' n-grams of characters.

    Attributes:
        column: What makes a task relevant.
        direction: Which end of the column is relevant.
        trade_off: 1 looks at relevance only, 0 at similarity only.
    """

    summary: ClassVar[str] = "high prompt uncertainty traded against similarity of definitions"
    name: Literal["diverse"] = "diverse"
    column: Annotated[str, Field(min_length=1)] = "prompt_uncertainty"
    direction: Direction = "high"
    trade_off: Annotated[float, Field(ge=0, le=1)] = 0.7

    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.measure, self.column)))

    def choose(self, draw: Draw) -> list[Choice]:
        """Greedily; forced tasks count as taken."""
        scores = draw.candidates
        values = np.array(numbers(scores, self.column))
        relevance = _scaled(values if self.direction == "high" else -values)
        definitions = [*_definitions(draw), *_definitions(draw, forced=True)]
        vectors = NgramVectors(definitions)
        nearest = np.zeros(len(definitions))
        for index in range(scores.height, len(definitions)):
            nearest = np.maximum(nearest, vectors.similarities(index))
        nearest = nearest[: scores.height]
        left = np.ones(scores.height, dtype=bool)
        choices = []
        for _ in range(draw.n):
            marginal = self.trade_off * relevance - (1 - self.trade_off) * nearest
            # argmax gives the first of equals, and candidates are sorted by their ids.
            best = int(np.argmax(np.where(left, marginal, -np.inf)))
            left[best] = False
            reason = (
                f"{self.column} {values[best]:.4g}, similarity {nearest[best]:.2f} to the nearest "
                f"task taken before"
            )
            choices.append(Choice(scores["task_id"][best], float(marginal[best]), reason))
            similar = vectors.similarities(best)[: scores.height]
            nearest = np.maximum(nearest, similar)
        return choices


def _scaled(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    span = float(np.ptp(values))
    return (values - values.min()) / span if span > 0 else np.zeros_like(values)


def _definitions(draw: Draw, *, forced: bool = False) -> list[str]:
    scores = draw.forced if forced else draw.candidates
    require_column(scores, "definition")
    texts: list[str | None] = scores["definition"].to_list()
    for task_id, text in zip(scores["task_id"], texts, strict=True):
        if text is None:
            raise InputError("holds nothing", record=task_id, field="definition")
    return [text for text in texts if text is not None]
