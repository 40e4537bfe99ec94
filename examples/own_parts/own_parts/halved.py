"""A measure: how often a change of the prompt halves the probability of the output."""

from __future__ import annotations

import numpy as np

from engine.measures.measure import Measure, mean
from engine.variance.pair_grid import PairGrid


def halved_share(grid: PairGrid) -> float | None:
    """Share of the pairs with p(i, j) < p(i, 0) / 2, in [0, 1]."""
    halved = grid.probabilities[:, 1:] < grid.probabilities[:, :1] / 2
    return mean(halved[grid.scored[:, 1:]].astype(np.float64))


HALVED_SHARE = Measure(
    name="halved_share",
    title="share of halved probabilities",
    formula="mean over i, j >= 1 of [p(i, j) < p(i, 0) / 2]",
    source="an example of jostle",
    needs="pairs",
    uncertain="high",
    lowest=0,
    highest=1,
    compute=halved_share,
)
