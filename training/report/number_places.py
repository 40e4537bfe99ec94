"""Where numbers stand beside their marks on a map, so that they hide little."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_AROUND = ((13, 0), (-13, 0), (11, -10), (-11, -10), (11, 10), (-11, 10), (0, -13), (0, 13))
_PLACES = np.array([(round(far * x), round(far * y)) for far in (1, 1.5) for x, y in _AROUND])
"""Of a number's middle from its mark, the better ones first; in pixels, as all that follows."""

_MARK = (9, 8)
"""A number nearer than this to a mark, to the side and upwards, hides some of it."""

_RING = (11, 10)
"""The same of marks that carry numbers: they are ringed."""

_NUMBER = (15, 11)
"""And of another number."""

Points = NDArray[np.float64]


def place_numbers(marks: Points, numbered: Sequence[int]) -> NDArray[np.int64]:
    """How far to the right and down of its mark each number stands, shape (len(numbered), 2).

    Args:
        marks: Of all marks how far to the right and down they are, shape (marks, 2).
        numbered: Places in `marks` of those that get a number, those that matter most first.
    """
    chosen = np.zeros(len(numbered), np.int64)
    middles = np.zeros((len(numbered), 2))
    for knows_all in (False, True):  # at first of those before it alone
        for number, mark in enumerate(numbered):
            there = marks[mark] + _PLACES
            others = np.delete(middles, number, axis=0) if knows_all else middles[:number]
            from_marks = np.linalg.norm(there[:, None] - marks[None], axis=2)
            astray = (from_marks < from_marks[:, [mark]]).any(axis=1)  # it would seem another's
            hidden = _hidden(there, marks, _MARK) + _hidden(there, marks[list(numbered)], _RING)
            cost = hidden + 2 * astray + 5 * _hidden(there, others, _NUMBER)
            chosen[number] = cost.argmin()
            middles[number] = there[chosen[number]]
    return _PLACES[chosen]


def _hidden(there: Points, others: Points, room: tuple[int, int]) -> NDArray[np.int64]:
    """How many of the others each of some places would hide."""
    near = np.abs(there[:, None] - others[None]) < np.array(room)
    hidden: NDArray[np.int64] = near.all(axis=2).sum(axis=1)
    return hidden
