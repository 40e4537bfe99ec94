"""Variance components of a move, and what they say of the mean of a design's moves.

Generalizability theory (Cronbach et al., 1972; Brennan, *Generalizability Theory*, 2001, chapters 3
and 5) splits the variance of D(i, j) = |p(i, j) - p(i, 0)|, a design with two random facets, into
instances, perturbations, and their interaction with whatever remains. p(i, 0) is shared by all
moves of an instance, so its peculiarity is part of the instance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


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

    def variance(self, n: float, k: float, cells: float | None = None) -> float:
        """Variance of prompt uncertainty over repeats of the design (Brennan, 2001, eq. 5.2).

        s2(instances) / n + s2(perturbations) / k + s2(interaction) / cells: a repeat draws other
        instances and other perturbations.

        Args:
            n: Instances, effective ones where they are used unequally often (`Analysis`).
            k: Perturbations, likewise.
            cells: Moves that are scored; n k where none are left out.
        """
        cells = n * k if cells is None else cells
        return self.instances / n + self.perturbations / k + self.interaction / cells

    def standard_error(self, n: float, k: float, cells: float | None = None) -> float:
        """Square root of `variance`: the error of prompt uncertainty, in units of probability."""
        return math.sqrt(self.variance(n, k, cells))

    @property
    def values(self) -> tuple[float, float, float]:
        """Instances, perturbations and interaction."""
        return self.instances, self.perturbations, self.interaction

    def scaled(self, factor: float) -> Components:
        return Components(
            self.instances * factor, self.perturbations * factor, self.interaction * factor
        )


TYPICAL = Components(instances=0.14, perturbations=0.18, interaction=0.21)
"""Relative components where a pool tells nothing: those of the pairs in `benchmarks/data`."""
