"""Which tasks each run of a datamodel trains on: drawn by number, so that any run can be redone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Kind = Literal["uniform", "high", "low", "repeat"]

KINDS: tuple[Kind, ...] = ("uniform", "high", "uniform", "low", "repeat")
"""Of five runs in a row."""

TILT = 0.7
"""How much likelier a task is drawn for a standard deviation of what runs lean on: with it the mean
of 12 of 56 tasks moves by about two standard deviations of uniform draws."""


@dataclass(frozen=True)
class Subset:
    """What one run trains on.

    Attributes:
        run: Its number.
        kind: `uniform`: every subset is as likely; `high`, `low`: tasks are likelier with one end
            of what runs lean on; `repeat`: a subset of the same five, with another seed.
        tasks: Places in the pool, ascending.
        seed: Of instances and order.
    """

    run: int
    kind: Kind
    tasks: tuple[int, ...]
    seed: int


def draw(run: int, lean: Floats, n_tasks: int) -> Subset:
    """The subset of a run.

    Args:
        lean: What every second draw leans on, one number per task of the pool.
        n_tasks: Tasks per subset.
    """
    block, place = divmod(run, len(KINDS))
    kind = KINDS[place]
    if kind == "repeat":
        return Subset(run, kind, draw(run - 1 - block % (len(KINDS) - 1), lean, n_tasks).tasks, run)
    towards = {"uniform": 0.0, "high": TILT, "low": -TILT}[kind]
    # The largest of weights plus Gumbel noise: a draw without replacement (Yellott, 1977).
    keys = towards * standardised(lean) + np.random.default_rng([run, 22]).gumbel(size=len(lean))
    return Subset(run, kind, tuple(sorted(np.argsort(-keys)[:n_tasks].tolist())), run)


def standardised(values: Floats) -> Floats:
    """With mean 0 and standard deviation 1 over the tasks."""
    return np.asarray((values - values.mean()) / values.std(ddof=1), dtype=np.float64)


def given(values: Floats, other: Floats) -> Floats:
    """What a straight line through another column leaves of this one."""
    design = np.column_stack([np.ones(len(other)), other])
    return np.asarray(values - design @ np.linalg.lstsq(design, values, rcond=None)[0])


def spread_of_means(values: Floats, n_tasks: int) -> float:
    """Standard deviation of the mean of so many tasks, drawn uniformly without replacement."""
    return float(values.std(ddof=1) * np.sqrt((1 - n_tasks / len(values)) / n_tasks))


def means(subsets: Sequence[Sequence[int]], values: Floats) -> Floats:
    """Mean of a column in each subset less the pool's, in standard deviations of uniform draws."""
    n_tasks = len(subsets[0])
    found = np.array([values[list(subset)].mean() for subset in subsets])
    return np.asarray((found - values.mean()) / spread_of_means(values, n_tasks))
