"""The analysis of variance of one task's table of moves, crossed or with holes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from engine.variance.components import Components

Moves = NDArray[np.float64]
"""|p(i, j) - p(i, 0)|, shape (instances, perturbations), in [0, 1]; nan where it is not scored."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """The analysis of variance of one table, with or without holes.

    Attributes:
        n: Instances.
        k: Perturbations.
        cells: Moves scored, m.
        effective_n: m^2 / sum over i of n_i^2, n_i the moves of instance i: n where all are used
            equally often, less where not. Instances count by it in the variance of the mean.
        effective_k: The same of perturbations.
        mean: The mean of all moves, prompt uncertainty.
        total: Variance of single moves about that mean; nan of one move.
        estimates: Unbiased estimates of the components (instances, perturbations, interaction);
            may be negative, nan where the table cannot tell them apart.
        degrees: Degrees of freedom of the three; 0 where they cannot be told apart.
    """

    n: int
    k: int
    cells: int
    effective_n: float
    effective_k: float
    mean: float
    total: float
    estimates: tuple[float, float, float]
    degrees: tuple[int, int, int]

    @classmethod
    def of(cls, moves: Moves) -> Self:
        """Analyses a table by Henderson's method 1.

        Sums of squares of rows, columns and single moves are set equal to what a model of random
        effects expects of them (Henderson, 1953; Searle, Casella and McCulloch, *Variance
        Components*, 1992, section 5.3). Without holes that is the usual analysis of variance.

        Args:
            moves: At least one of them scored.
        """
        scored = np.isfinite(moves)
        in_row, in_column = scored.sum(axis=1), scored.sum(axis=0)
        n, k = int((in_row > 0).sum()), int((in_column > 0).sum())
        m = int(scored.sum())
        mean = float(moves[scored].mean())
        away = np.where(scored, moves - mean, 0.0)
        squares = float((away**2).sum())
        per_row = float((away.sum(axis=1) ** 2 / np.maximum(in_row, 1)).sum())
        per_column = float((away.sum(axis=0) ** 2 / np.maximum(in_column, 1)).sum())
        twice_row, twice_column = float((in_row**2).sum()) / m, float((in_column**2).sum()) / m
        rest = m - n - k + 1
        estimates = (math.nan, math.nan, math.nan)
        if min(n, k) > 1 and rest > 0:
            # Expected: within rows of perturbations and rest, within columns of instances and rest.
            within_rows = (squares - per_row) / (m - n)
            within_columns = (squares - per_column) / (m - k)
            a, b = m - twice_row, n - twice_column
            interaction = (a * within_columns + b * within_rows - per_row) / (a + b - (n - 1))
            estimates = (within_columns - interaction, within_rows - interaction, interaction)
        return cls(
            n=n,
            k=k,
            cells=m,
            effective_n=m / twice_row,
            effective_k=m / twice_column,
            mean=mean,
            total=squares / (m - 1) if m > 1 else math.nan,
            estimates=estimates,
            degrees=(n - 1, k - 1, rest) if math.isfinite(estimates[2]) else (0, 0, 0),
        )

    def squared_level(self) -> float:
        """Square of true prompt uncertainty: that of the mean less the mean's own variance.

        Unbiased where the components can be told apart; may be negative. Where not, moves are taken
        to be independent.
        """
        if math.isfinite(self.estimates[2]):
            own = Components(*self.estimates)
            return self.mean**2 - own.variance(self.effective_n, self.effective_k, self.cells)
        return self.mean**2 - (self.total / self.cells if self.cells > 1 else 0.0)

    def variance(self, components: Components) -> float:
        """Variance of the mean, given the components of a move."""
        return components.variance(self.effective_n, self.effective_k, self.cells)
