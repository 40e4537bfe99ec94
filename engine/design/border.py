"""The border of the top N: who is inside, whose interval reaches over it, what is in doubt."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from engine.variance.overlap import top

Floats = NDArray[np.float64]

_AT = np.linspace(0.0, 8.0, 3201)
_BEYOND = np.array([0.5 * math.erfc(each / math.sqrt(2)) for each in _AT])
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(11)


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


def distance(mean: Floats, n_select: int) -> Floats:
    """How far each mean lies from the middle between the N-th and the next; inf if all are in."""
    if n_select >= len(mean):
        return np.full(len(mean), np.inf)
    ranked = np.sort(mean)[::-1]
    return np.asarray(np.abs(mean - (ranked[n_select - 1] + ranked[n_select]) / 2))


def doubt(away: Floats, deviation: Floats) -> Floats:
    """Variance q (1 - q) of membership, q = Phi(-away / deviation): 1/4 at the border, 0 afar.

    Args:
        away: Distance of the posterior mean from the border, >= 0; any shape.
        deviation: Deviation of the posterior, > 0; of that shape.
    """
    q = np.interp(away / deviation, _AT, _BEYOND, right=0.0)
    return np.asarray(q * (1 - q))


def expected_doubt(away: Floats, now: Floats, then: Floats) -> Floats:
    """What doubt is expected to be left when a deviation has fallen from `now` to `then`.

    The mean moves by N(0, now^2 - then^2) when the data come in; Gauss-Hermite quadrature over it.
    """
    shift = np.sqrt(np.maximum(now**2 - then**2, 0.0))
    moved = np.abs(away[..., None] + shift[..., None] * _NODES)
    left = doubt(moved, np.broadcast_to(then[..., None], moved.shape))
    return np.asarray(left @ (_WEIGHTS / _WEIGHTS.sum()))
