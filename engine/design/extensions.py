"""The steps by which a table can grow, for all tasks at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_SHARES = (1 / 3, 1 / 2, 1.0)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the tables of all tasks cost and how large they can get; one entry per task.

    Attributes:
        prefix: `TaskCost.prefix`.
        tail: `TaskCost.tail`.
        instances: Instances at most.
        perturbations: Perturbations at most.
        prefixes_kept: Whether further instances find the prefixes in the cache.
    """

    prefix: Floats
    tail: Floats
    instances: Floats
    perturbations: Floats
    prefixes_kept: bool

    def tokens(self, n: Floats, k: Floats, to_n: Floats, to_k: Floats) -> Floats:
        """Computed tokens from n x k to to_n x to_k: rows first, then columns, as `TaskCost`."""
        again = np.zeros_like(self.prefix) if self.prefixes_kept else self.prefix
        rows = (k + 1) * (again + (to_n - n) * self.tail)
        columns = (to_k - k) * (self.prefix + to_n * self.tail)
        return np.where(to_n > n, rows, 0.0) + columns


@dataclass(frozen=True, slots=True)
class Options:
    """Designs that tasks could have next, shape (options, tasks); one that changes nothing is free.

    Attributes:
        n: Instances.
        k: Perturbations.
        tokens: What the step costs.
    """

    n: Floats
    k: Floats
    tokens: Floats


def options(n: Floats, k: Floats, limits: Limits) -> Options:
    """Rows, columns or both, by a third, a half and the whole of what is there, at least by one."""
    steps = []
    for share in _SHARES:
        more_n = np.minimum(n + np.maximum(1, np.floor(n * share)), limits.instances)
        more_k = np.minimum(k + np.maximum(1, np.floor(k * share)), limits.perturbations)
        # A task may have started with more than the limit.
        more_n, more_k = np.maximum(n, more_n), np.maximum(k, more_k)
        steps += [(n, more_k), (more_n, k), (more_n, more_k)]
    tokens = [limits.tokens(n, k, to_n, to_k) for to_n, to_k in steps]
    return Options(
        n=np.array([to_n for to_n, _ in steps]),
        k=np.array([to_k for _, to_k in steps]),
        tokens=np.array(tokens),
    )
