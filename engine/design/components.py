"""Variance components of a task's measurement, and the standard error of its prompt uncertainty.

A measurement of a task is a table of moves D(i, j) = |p(i, j) - p(i, 0)|, instances in rows and
perturbations in columns: a crossed design with two random facets. Generalizability theory (Cronbach
et al., 1972; Brennan, *Generalizability Theory*, 2001, chapters 3 and 5) splits its variance into
instances, perturbations, and their interaction with whatever remains. p(i, 0) is shared by a row,
so its peculiarity is part of the instance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from engine.api import PairScore

Moves = NDArray[np.float64]
"""|p(i, j) - p(i, 0)|, shape (instances, perturbations), in [0, 1]."""

PRIOR_DEGREES = 10.0
"""Degrees of freedom that what the pool says weighs against a task's own table."""


@dataclass(frozen=True, slots=True)
class Components:
    """Variances of one move, in squared units of probability, each >= 0.

    Attributes:
        instances: Between instances, averaged over perturbations.
        perturbations: Between perturbations, averaged over instances.
        interaction: Of an instance under a perturbation, what the two do not explain.
    """

    instances: float
    perturbations: float
    interaction: float

    def variance(self, n: int, k: int) -> float:
        """Variance of prompt uncertainty over repeats of the design (Brennan, 2001, eq. 5.2).

        s2(instances) / n + s2(perturbations) / k + s2(interaction) / (n k): a repeat draws other
        instances and other perturbations.
        """
        return self.instances / n + self.perturbations / k + self.interaction / (n * k)

    def standard_error(self, n: int, k: int) -> float:
        """Square root of `variance`: the error of prompt uncertainty, in units of probability."""
        return math.sqrt(self.variance(n, k))

    def scaled(self, factor: float) -> Components:
        """All components times a factor."""
        return Components(
            self.instances * factor, self.perturbations * factor, self.interaction * factor
        )


TYPICAL = Components(instances=0.14, perturbations=0.18, interaction=0.21)
"""Relative components where a pool tells nothing: those of the pairs in `benchmarks/data`."""

_TYPICAL_DEGREES = 1.0
"""Degrees of freedom that `TYPICAL` weighs against what a pool says."""


@dataclass(frozen=True, slots=True)
class MeanSquares:
    """The analysis of variance of one table: mean squares, nan where no degree of freedom is left.

    Attributes:
        n: Instances.
        k: Perturbations.
        mean: The table's mean, prompt uncertainty.
        instances: k x the variance of the row means.
        perturbations: n x the variance of the column means.
        interaction: Residual sum of squares / ((n - 1) (k - 1)).
    """

    n: int
    k: int
    mean: float
    instances: float
    perturbations: float
    interaction: float

    @classmethod
    def of(cls, moves: Moves) -> Self:
        """The mean squares of a table of shape (n, k), n and k >= 1 (Brennan, 2001, table 3.1)."""
        n, k = moves.shape
        mean = float(moves.mean())
        rows, columns = moves.mean(axis=1), moves.mean(axis=0)
        rest = moves - rows[:, None] - columns[None, :] + mean
        return cls(
            n=n,
            k=k,
            mean=mean,
            instances=_ratio(k * float(((rows - mean) ** 2).sum()), n - 1),
            perturbations=_ratio(n * float(((columns - mean) ** 2).sum()), k - 1),
            interaction=_ratio(float((rest**2).sum()), (n - 1) * (k - 1)),
        )

    def components(self) -> Components:
        """The task's own estimates, negative ones set to 0 (Brennan, 2001, section 3.4.6).

        Raises:
            ValueError: With one instance or one perturbation, where they cannot be told apart.
        """
        if self.n < 2 or self.k < 2:
            raise ValueError("components need at least two instances and two perturbations")
        return Components(*map(_at_least_zero, self.untruncated()))

    def untruncated(self) -> tuple[float, float, float]:
        """Unbiased estimates of instances, perturbations and interaction; may be negative, nan."""
        rest = self.interaction
        return (self.instances - rest) / self.k, (self.perturbations - rest) / self.n, rest

    def squared_level(self) -> float:
        """Square of true prompt uncertainty: that of the mean less the mean's own variance.

        Unbiased where the components can be told apart; may be negative.
        """
        if self.n < 2 or self.k < 2:
            return self.mean**2
        instances, perturbations, rest = self.untruncated()
        own = instances / self.n + perturbations / self.k + rest / (self.n * self.k)
        return self.mean**2 - own

    def degrees(self) -> tuple[int, int, int]:
        """Degrees of freedom of instances, perturbations and interaction."""
        return self.n - 1, self.k - 1, (self.n - 1) * (self.k - 1)


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
    def of(cls, tables: Sequence[MeanSquares]) -> Self:
        """Pools one table per task, of any shapes.

        Negative estimates are set to 0 after pooling only, which keeps the pooled ones nearly
        unbiased. What the tables cannot tell (instances, when all have but one) is `TYPICAL`.

        Raises:
            ValueError: If there is no table.
        """
        if not tables:
            raise ValueError("there is nothing to pool")
        means = np.array([table.mean for table in tables])
        relative = pooled_relative(
            np.array([table.untruncated() for table in tables]),
            np.array([table.degrees() for table in tables], dtype=float),
            np.array([table.squared_level() for table in tables]),
        )
        mean = float(means.mean())
        mean_square = max(float(np.mean([table.squared_level() for table in tables])), mean**2)
        noise = [relative.scaled(mean_square).variance(table.n, table.k) for table in tables]
        spread = float(means.var(ddof=1) - np.mean(noise)) if len(tables) > 1 else 0.0
        return cls(relative, mean, mean_square, max(0.0, spread))

    def task(self, table: MeanSquares) -> Components:
        """The components of one task: its own estimates, shrunk towards the pool's.

        The pool's weigh as much as `PRIOR_DEGREES` degrees of freedom (an empirical Bayes estimate
        with a scaled inverse chi-squared prior; Smyth, 2004), at the task's own level.
        """
        prior = self.relative.scaled(self._level(table) ** 2)
        return Components(
            *(
                _at_least_zero(_shrunk(own, degrees, expected, PRIOR_DEGREES))
                for own, degrees, expected in zip(
                    table.untruncated(), table.degrees(), _values(prior), strict=True
                )
            )
        )

    def _level(self, table: MeanSquares) -> float:
        """The task's prompt uncertainty, shrunk towards the pool's mean by its reliability."""
        noise = self.relative.scaled(self.mean_square).variance(table.n, table.k)
        reliability = self.spread / (self.spread + noise) if noise > 0 else 1.0
        return self.mean + reliability * (table.mean - self.mean)


def moves_of(pairs: Sequence[PairScore]) -> Moves:
    """The table of moves of one task, instances in order of appearance.

    Raises:
        ValueError: If an instance lacks its original or a perturbed pair that another one has.
    """
    table: dict[str, dict[int, float]] = {}
    for pair in pairs:
        table.setdefault(pair.instance_id, {})[pair.perturbation] = pair.probability
    numbers = sorted({pair.perturbation for pair in pairs} - {0})
    if not numbers or any(row.keys() != {0, *numbers} for row in table.values()):
        raise ValueError("every instance needs its original and the same perturbed pairs")
    return np.array([[abs(row[j] - row[0]) for j in numbers] for row in table.values()])


def standard_errors(tables: Sequence[Moves]) -> list[float]:
    """The standard error of prompt uncertainty of each task of a pool, in units of probability.

    Args:
        tables: One table of moves per task; components are pooled over all of them.
    """
    if not tables:
        return []
    squares = [MeanSquares.of(table) for table in tables]
    pooled = Pooled.of(squares)
    return [pooled.task(each).standard_error(each.n, each.k) for each in squares]


def pooled_relative(own: Moves, degrees: Moves, levels: Moves) -> Components:
    """Components over all tasks / squared level, both weighted by degrees of freedom.

    Args:
        own: Unbiased components of each task, shape (tasks, 3); not finite where unknown.
        degrees: Their degrees of freedom, of the same shape.
        levels: Squared level of each task, shape (tasks,).
    """
    values = []
    for facet, typical in enumerate(_values(TYPICAL)):
        known = (degrees[:, facet] > 0) & np.isfinite(own[:, facet])
        weights = degrees[known, facet]
        level, total = float((weights * levels[known]).sum()), float(weights.sum())
        mine = float((weights * own[known, facet]).sum()) / level if level > 0 else math.nan
        values.append(_at_least_zero(_shrunk(mine, total, typical, _TYPICAL_DEGREES)))
    return Components(*values)


def _values(components: Components) -> tuple[float, float, float]:
    return components.instances, components.perturbations, components.interaction


def _shrunk(own: float, degrees: float, expected: float, weight: float) -> float:
    if math.isnan(own):
        return expected
    return (degrees * own + weight * expected) / (degrees + weight)


def _at_least_zero(value: float) -> float:
    return max(0.0, value)


def _ratio(total: float, degrees: int) -> float:
    return total / degrees if degrees else math.nan
