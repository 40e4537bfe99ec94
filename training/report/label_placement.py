"""Where the labels of a scatter plot go, so that they cover neither dots nor each other.

Boxes are rows of (left, bottom, right, top), in points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.float64]

_RINGS = 24
# Sideways first, where a label reads on from its dot; then round the clock.
_DEGREES = (0, 180, 30, 150, 330, 210, 60, 120, 300, 240, 90, 270)
_MARGIN = 2.0


def place_labels(
    dots: Boxes,
    labels: Sequence[tuple[int, float, float]],
    frame: tuple[float, float, float, float],
) -> list[tuple[float, float]]:
    """Greedy placement: each label takes the nearest place that covers least.

    Args:
        dots: A box around each dot, shape (n, 4).
        labels: Index of its dot, width and height of each label; the first chooses first.
        frame: The box that labels should not leave.

    Returns:
        Offset of each label's lower left corner from the middle of its dot.
    """
    taken = np.asarray(dots, dtype=np.float64).reshape(-1, 4)
    offsets = []
    for index, width, height in labels:
        dot = taken[index]
        x, y = (dot[0] + dot[2]) / 2, (dot[1] + dot[3]) / 2
        # A dot that overlaps this one cannot be kept clear of this one's leader.
        elsewhere = taken[_overlaps(np.array([[x - 1, y - 1, x + 1, y + 1]]), taken)[0] == 0]
        best: tuple[float, Boxes] | None = None
        for box in _candidates(x, y, width, height):
            roomy = box + np.array([-_MARGIN, -_MARGIN, _MARGIN, _MARGIN])
            cost = float(_overlaps(roomy[None], taken).sum())
            cost += float(_overlaps(_leader(x, y, box), elsewhere).sum())
            cost += 4 * (width * height - float(_overlaps(box[None], np.array([frame]))[0, 0]))
            if best is None or cost < best[0] - 1e-6:
                best = (cost, box)
            if cost < 1e-6:
                break
        assert best is not None
        box = best[1]
        taken = np.vstack([taken, box, _leader(x, y, box)])
        offsets.append((float(box[0] - x), float(box[1] - y)))
    return offsets


def _candidates(x: float, y: float, width: float, height: float) -> list[Boxes]:
    """Boxes around a dot, near ones first."""
    boxes = []
    for ring in range(_RINGS):
        distance = 8 + 5 * ring
        for degrees in _DEGREES:
            cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
            left = x + distance * cosine + width * (cosine - 1) / 2
            bottom = y + distance * sine + height * (sine - 1) / 2
            boxes.append(np.array([left, bottom, left + width, bottom + height]))
    return boxes


def _leader(x: float, y: float, box: Boxes) -> Boxes:
    """Small boxes along the line from a dot to the middle of its label, both ends left out."""
    parts = np.linspace(0.2, 0.8, 10)
    along_x = x + ((box[0] + box[2]) / 2 - x) * parts
    along_y = y + ((box[1] + box[3]) / 2 - y) * parts
    return np.column_stack([along_x - 0.7, along_y - 0.7, along_x + 0.7, along_y + 0.7])


def _overlaps(ones: Boxes, others: Boxes) -> npt.NDArray[np.float64]:
    """Area that each of `ones` shares with each of `others`, shape (len(ones), len(others))."""
    lower = np.maximum(ones[:, None, :2], others[None, :, :2])
    upper = np.minimum(ones[:, None, 2:], others[None, :, 2:])
    sides = np.clip(upper - lower, 0, None)
    area: npt.NDArray[np.float64] = sides[..., 0] * sides[..., 1]
    return area
