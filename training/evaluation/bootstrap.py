"""Bootstrap confidence intervals (Efron, 1979) of means."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

LEVEL = 0.95
"""Share of the resampled means inside an interval."""


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
