"""Confidence intervals of means by the bootstrap (Efron, 1979), and of shares."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from engine.bench.repeats import t_beyond, t_quantile

LEVEL = 0.95
"""Share of the resampled means inside an interval."""

_Z = NormalDist().inv_cdf(0.5 + LEVEL / 2)


def mean_interval(
    values: Sequence[float], name: str, n_samples: int = 1_000
) -> tuple[float, float] | None:
    """The percentile interval of the mean, at `LEVEL`, as wide as so few values ask for.

    Args:
        values: What the mean is taken of; each is drawn with the same chance.
        name: Seeds the draw, so that equal values under equal names give equal intervals.
        n_samples: Resamples.

    Returns:
        Lower and upper end, which may lie beyond all values; none for fewer than two values, which
        say nothing of a spread.
    """
    if len(values) < 2:
        return None
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    array = np.asarray(values, dtype=np.float64)
    array = array.mean() + _widening(len(array)) * (array - array.mean())
    picked = rng.integers(0, len(array), size=(n_samples, len(array)))
    low, high = np.quantile(array[picked].mean(axis=1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def share_interval(hits: Sequence[bool]) -> tuple[float, float] | None:
    """Wilson's interval (1927) of the share that is true, in percent, at `LEVEL`.

    It has a width where all or none is true; none for fewer than two values.
    """
    n, true = len(hits), sum(hits)
    if n < 2:
        return None
    centre, half = true + _Z**2 / 2, _Z * math.sqrt(true * (n - true) / n + _Z**2 / 4)
    low, high = (100 * (centre + side) / (n + _Z**2) for side in (-half, half))
    return max(0.0, low), min(100.0, high)


def _widening(n: int) -> float:
    """What deviations are multiplied by, for a draw of n values varies too little.

    To their variance, and from the normal quantile to Student's.
    """
    return math.sqrt(n / (n - 1)) * t_quantile(n - 1) / _Z


class MeanDifference(NamedTuple):
    """A mean difference of pairs, and what a repeat could have made of it.

    Attributes:
        value: The mean.
        low, high: Its interval at `LEVEL`.
        p: Of Student's t on both sides, t being the mean over the half of the interval that looks
            towards 0, in units of the quantile at `LEVEL`: below 0.05 where the interval leaves out
            0. Degrees of freedom are those of seeds or of tasks, whichever are fewer; of one seed
            those of the tasks, and then p says nothing of seeds either.
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
    pigeonhole bootstrap; Owen, 2007). A draw of few varies too little, and its percentiles are
    those of many: what seeds differ by, and what tasks do, is widened to the variance and to
    Student's quantile of so many. With one seed the interval says what other tasks would show, and
    nothing of seeds.

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
    drawn = [(axis, n) for axis, n in ((0, n_tasks), (1, n_seeds)) if n > 1]
    table = table + sum(
        (_widening(n) - 1) * (table.mean(axis=axis, keepdims=True) - table.mean())
        for axis, n in drawn
    )
    n_least = min(n for _, n in drawn)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    seeds = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=n_samples) / n_seeds
    tasks = rng.multinomial(n_tasks, np.full(n_tasks, 1 / n_tasks), size=n_samples) / n_tasks
    means = ((seeds @ table) * tasks).sum(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    value = float(table.mean())
    half = value - low if value > 0 else high - value
    t = t_quantile(n_least - 1) * abs(value) / half if half > 0 else math.inf
    p = t_beyond(t, n_least - 1) if value else 1.0
    return MeanDifference(value, float(low), float(high), p)
