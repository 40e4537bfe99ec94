"""What the tables of a pool have in common, and how sure each task's measurement is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from engine.variance.analysis import Analysis, Moves
from engine.variance.components import TYPICAL, Components

Floats = NDArray[np.float64]

PRIOR_DEGREES = 10.0
"""Degrees of freedom that what the pool says weighs against a task's own table."""

_TYPICAL_DEGREES = 1.0
"""Degrees of freedom that `TYPICAL` weighs against what a pool says."""


@dataclass(frozen=True, slots=True)
class Analyses:
    """The analyses of a pool's tables side by side, one row per task.

    Attributes:
        n: `Analysis.effective_n`.
        k: `Analysis.effective_k`.
        cells: `Analysis.cells`.
        mean: `Analysis.mean`.
        total: `Analysis.total`.
        level: `Analysis.squared_level()`.
        own: `Analysis.estimates`, shape (tasks, 3).
        degrees: `Analysis.degrees`, shape (tasks, 3).
    """

    n: Floats
    k: Floats
    cells: Floats
    mean: Floats
    total: Floats
    level: Floats
    own: Floats
    degrees: Floats

    @classmethod
    def of(cls, tables: Sequence[Analysis]) -> Self:
        return cls(
            n=np.array([table.effective_n for table in tables]),
            k=np.array([table.effective_k for table in tables]),
            cells=np.array([table.cells for table in tables], dtype=float),
            mean=np.array([table.mean for table in tables]),
            total=np.array([table.total for table in tables]),
            level=np.array([table.squared_level() for table in tables]),
            own=np.array([table.estimates for table in tables]).reshape(-1, 3),
            degrees=np.array([table.degrees for table in tables], dtype=float).reshape(-1, 3),
        )

    def relative(self) -> Components:
        """Components over all tasks / squared level, both weighted by degrees of freedom.

        What no table can tell is `TYPICAL`, scaled to the variance of single moves, which any two
        moves of a task tell.
        """
        typical = TYPICAL.scaled(self._scale_of_typical())
        values = []
        for facet, expected in enumerate(typical.values):
            known = self.degrees[:, facet] > 0
            weights = self.degrees[known, facet]
            level, total = float((weights * self.level[known]).sum()), float(weights.sum())
            own = float((weights * self.own[known, facet]).sum()) / level if level > 0 else math.nan
            values.append(_at_least_zero(_shrunk(own, total, expected, _TYPICAL_DEGREES)))
        return Components(*values)

    def _scale_of_typical(self) -> float:
        """Variance of single moves over what `TYPICAL` expects of it, both times their degrees."""
        many = self.cells > 1
        m, level = self.cells[many], np.maximum(self.level[many], 0.0)
        expected = level * (
            m * (1 - 1 / self.n[many]) * TYPICAL.instances
            + m * (1 - 1 / self.k[many]) * TYPICAL.perturbations
            + (m - 1) * TYPICAL.interaction
        )
        total = float(expected.sum())
        own = float(((m - 1) * self.total[many]).sum()) / total if total > 0 else math.nan
        return _shrunk(own, float((m - 1).sum()), 1.0, _TYPICAL_DEGREES)


@dataclass(frozen=True, slots=True)
class Pooled:
    """What the tasks of a pool have in common: components relative to the squared level.

    Moves are bounded below by 0 and most tasks lie close to it, so the noise of a task grows with
    its prompt uncertainty; what is alike between tasks is the relative noise.

    Attributes:
        relative: Components of a task divided by its squared prompt uncertainty.
        mean: Mean prompt uncertainty of the pool.
        mean_square: Mean squared prompt uncertainty of the pool.
        spread: Variance of true prompt uncertainty between tasks, >= 0.
    """

    relative: Components
    mean: float
    mean_square: float
    spread: float

    @classmethod
    def of(cls, tables: Sequence[Analysis]) -> Self:
        """Pools one table per task, of any shapes.

        Negative estimates are set to 0 after pooling only, which keeps the pooled ones nearly
        unbiased.

        Raises:
            ValueError: If there is no table.
        """
        if not tables:
            raise ValueError("there is nothing to pool")
        analyses = Analyses.of(tables)
        relative = analyses.relative()
        mean = float(analyses.mean.mean())
        mean_square = max(float(analyses.level.mean()), mean**2)
        noise = [table.variance(relative.scaled(mean_square)) for table in tables]
        spread = float(analyses.mean.var(ddof=1) - np.mean(noise)) if len(tables) > 1 else 0.0
        return cls(relative, mean, mean_square, max(0.0, spread))

    def task(self, table: Analysis) -> Components:
        """The components of one task: its own estimates, shrunk towards the pool's.

        The pool's weigh as much as `PRIOR_DEGREES` degrees of freedom (an empirical Bayes estimate
        with a scaled inverse chi-squared prior; Smyth, 2004), at the task's own level.
        """
        prior = self.relative.scaled(self._level(table) ** 2)
        return Components(
            *(
                _at_least_zero(_shrunk(own, degrees, expected, PRIOR_DEGREES))
                for own, degrees, expected in zip(
                    table.estimates, table.degrees, prior.values, strict=True
                )
            )
        )

    def standard_error(self, table: Analysis) -> float:
        """The error of one task's prompt uncertainty, in units of probability."""
        return math.sqrt(table.variance(self.task(table)))

    def _level(self, table: Analysis) -> float:
        """The task's prompt uncertainty, shrunk towards the pool's mean by its reliability."""
        noise = table.variance(self.relative.scaled(self.mean_square))
        reliability = self.spread / (self.spread + noise) if noise > 0 else 1.0
        return self.mean + reliability * (table.mean - self.mean)


def standard_errors(tables: Sequence[Moves]) -> list[float | None]:
    """The standard error of prompt uncertainty of each task of a pool, in units of probability.

    Args:
        tables: One table of moves per task; components are pooled over all of them. One without
            moves was not measured and has no error.
    """
    analyses = [Analysis.of(table) if table.size else None for table in tables]
    measured = [each for each in analyses if each is not None]
    if not measured:
        return [None] * len(tables)
    pooled = Pooled.of(measured)
    return [None if each is None else pooled.standard_error(each) for each in analyses]


def _shrunk(own: float, degrees: float, expected: float, weight: float) -> float:
    if math.isnan(own):
        return expected
    return (degrees * own + weight * expected) / (degrees + weight)


def _at_least_zero(value: float) -> float:
    return max(0.0, value)
