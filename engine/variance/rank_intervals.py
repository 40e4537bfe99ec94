"""Which ranks a task would get if the measurement were repeated."""

from __future__ import annotations

import numpy as np

from engine.variance.overlap import Floats, repeat_model

_DRAWS = 400


def rank_intervals(
    values: Floats, errors: Floats, *, level: float = 0.9, seed: int = 0
) -> tuple[Floats, Floats]:
    """Least and most of the ranks that repeats would give, by `repeat_model`.

    Args:
        values: Measured values, shape (T,); the largest has rank 1.
        errors: Standard errors, shape (T,).
        level: Share of the repeats whose rank lies between both.
        seed: Of the draws.

    Returns:
        Both of shape (T,), in [1, T].
    """
    mean, deviation = repeat_model(values, errors)
    shape = (_DRAWS, len(values))
    repeat = mean + deviation * np.random.default_rng(seed).standard_normal(shape)
    ranks = np.empty(shape, dtype=np.int32)
    order = np.argsort(-repeat, axis=1)
    np.put_along_axis(ranks, order, np.arange(1, len(values) + 1, dtype=np.int32)[None], axis=1)
    tail = (1 - level) / 2
    low, high = np.quantile(ranks, [tail, 1 - tail], axis=0, method="nearest")
    return low, high
