"""Bootstrap confidence intervals (Efron, 1979) of means."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from engine.bench.repeats import t_quantile

LEVEL = 0.95
"""Share of the resampled means inside an interval."""

_Z = NormalDist().inv_cdf(0.5 + LEVEL / 2)


def mean_interval(
    values: Sequence[float], name: str, n_samples: int = 1_000
) -> tuple[float, float] | None:
    """The percentile interval of the mean, at `LEVEL`.

    Args:
        values: What the mean is taken of; each is drawn with the same chance.
        name: Seeds the draw, so that equal values under equal names give equal intervals.
        n_samples: Resamples.

    Returns:
        Lower and upper end; none for fewer than two values, which say nothing of a spread.
    """
    if len(values) < 2:
        return None
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    array = np.asarray(values, dtype=np.float64)
    picked = rng.integers(0, len(array), size=(n_samples, len(array)))
    low, high = np.quantile(array[picked].mean(axis=1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


class MeanDifference(NamedTuple):
    """A mean difference of pairs, and what a repeat could have made of it.

    Attributes:
        value: The mean.
        low, high: Its interval at `LEVEL`.
        p: Twice the share of resampled means on the other side of 0, and 0 itself.
    """

    value: float
    low: float
    high: float
    p: float


def crossed_difference(
    values: Sequence[Sequence[float]], name: str, n_samples: int = 5_000
) -> MeanDifference | None:
    """Bootstrap over seeds and tasks: both are drawn anew, each with all that belongs to it.

    Tasks are the same under all seeds, so one draw of them goes with all seeds of a resample (the
    pigeonhole bootstrap; Owen, 2007). A draw of few seeds varies too little, and its percentiles
    are those of many: what seeds differ by is widened to the variance and to Student's quantile of
    so many. With one seed the interval says what other tasks would show, and nothing of seeds.

    Args:
        values: Differences, a row per seed and a column per task.
        name: Seeds the draw.

    Returns:
        None for fewer than two tasks.
    """
    table = np.asarray(values, dtype=np.float64)
    n_seeds, n_tasks = table.shape
    if n_tasks < 2:
        return None
    if n_seeds > 1:
        of_seeds = table.mean(axis=1, keepdims=True) - table.mean()
        widened = np.sqrt(n_seeds / (n_seeds - 1)) * t_quantile(n_seeds - 1) / _Z
        table = table + (widened - 1) * of_seeds
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    seeds = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=n_samples) / n_seeds
    tasks = rng.multinomial(n_tasks, np.full(n_tasks, 1 / n_tasks), size=n_samples) / n_tasks
    means = ((seeds @ table) * tasks).sum(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    beyond = min(int((means <= 0).sum()), int((means >= 0).sum()))
    p = min(1.0, 2 * (1 + beyond) / (1 + n_samples))
    return MeanDifference(float(table.mean()), float(low), float(high), p)
