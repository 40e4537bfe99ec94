"""Which ranks a task would get if the measurement were repeated."""

from __future__ import annotations

import numpy as np

from engine.variance.overlap import Floats, repeat_model

_DRAWS = 400
_BOUNDS = (0.05, 0.95)  # between which the ranks of 9 in 10 repeats lie


def rank_intervals(
    values: Floats, errors: Floats, *, shrunk: bool = False
) -> tuple[Floats, Floats]:
    """Least and most of the ranks that repeats would give, by `repeat_model` of square roots.

    The error of a measured uncertainty grows with it. On its own scale the normal model takes the
    largest values for little more than noise: of stored pairs of real and bundled tasks 0.96 to
    0.99 of the repeats of the first 12 then fell between both, and on that of the root, whose
    error is about the same for all, 0.89 to 0.98.

    Args:
        values: Measured values, shape (T,), none below 0; the largest has rank 1.
        errors: Standard errors, shape (T,).
        shrunk: See `repeat_model`.

    Returns:
        Both of shape (T,), in [1, T].
    """
    slope = 2 * np.sqrt(np.maximum(values, errors))  # of the square; no root of 0 is certain
    known = slope > 0
    roots = np.where(known, errors / np.where(known, slope, 1.0), 0.0)
    mean, deviation = repeat_model(np.sqrt(values), roots, shrunk=shrunk)
    shape = (_DRAWS, len(values))
    repeat = mean + deviation * np.random.default_rng(0).standard_normal(shape)
    ranks = np.empty(shape, dtype=np.int32)
    order = np.argsort(-repeat, axis=1)
    np.put_along_axis(ranks, order, np.arange(1, len(values) + 1, dtype=np.int32)[None], axis=1)
    low, high = np.quantile(ranks, _BOUNDS, axis=0, method="nearest")
    return low, high
