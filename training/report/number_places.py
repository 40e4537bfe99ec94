"""Where numbers stand beside their marks on a map, so that they hide little."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_AROUND = ((13, 0), (-13, 0), (10, -9), (-10, -9), (10, 9), (-10, 9), (0, -13), (0, 13))
"""Of a number's middle from its mark, the better ones first; in pixels, as all that follows."""

_ROOM = (13, 11)
"""How far to the side or upwards the next mark or number has to be."""


def place_numbers(marks: NDArray[np.float64], numbered: Sequence[int]) -> list[tuple[int, int]]:
    """How far to the right and down of its mark each number stands.

    Args:
        marks: Of all marks how far to the right and down they are, shape (marks, 2).
        numbered: Places in `marks` of those that get a number, those that matter most first.
    """
    taken, chosen = marks, []
    for mark in numbered:
        there = marks[mark] + _AROUND
        far = np.abs(there[:, None] - taken[None]) / _ROOM
        clear = far.max(axis=2).min(axis=1).clip(max=1).argmax()
        chosen.append(_AROUND[clear])
        taken = np.vstack([taken, there[clear]])
    return chosen
