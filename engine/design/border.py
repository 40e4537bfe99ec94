"""The border of the top N: who is inside, whose interval reaches over it, who may be misplaced."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from engine.design.overlap import posterior, top

Floats = NDArray[np.float64]


def judge(u: Floats, half_width: Floats, n_select: int) -> tuple[NDArray[np.bool_], Floats]:
    """Who is among the top `n_select`, and by how much each interval reaches over the border.

    A member reaches from its lower end to the highest upper end of the outsiders, an outsider from
    the lowest lower end of the members to its upper end.

    Returns:
        Membership, and the reach: positive where membership is open, in units of `u`.
    """
    inside = np.zeros(len(u), bool)
    inside[top(u, n_select)] = True
    if inside.all():
        return inside, np.full(len(u), -1.0)
    high, low = u + half_width, u - half_width
    return inside, np.where(inside, high[~inside].max() - low, high - low[inside].min())


def misplaced(u: Floats, s: Floats, n_select: int) -> Floats:
    """Probability that each task's true value lies beyond the border of the top `n_select`.

    Under the normal model of `engine.design.overlap`; in [0, 0.5].
    """
    if n_select >= len(u):
        return np.zeros(len(u))
    mean, deviation = posterior(u, s)
    ranked = np.sort(mean)[::-1]
    border = (ranked[n_select - 1] + ranked[n_select]) / 2
    distance = np.abs(mean - border) / np.maximum(deviation, 1e-12)
    return np.array([0.5 * math.erfc(each / math.sqrt(2)) for each in distance])
