"""The tables of `benchmarks.adaptive`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.common.result_file import ResultFile

Floats = NDArray[np.float64]
LEVELS = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


@dataclass(frozen=True)
class Curve:
    """Mean overlap with the reference against mean computed tokens, tokens ascending."""

    name: str
    tokens: Floats
    overlap: Floats
    labels: tuple[str, ...] = ()

    def tokens_for(self, level: float) -> float:
        """Tokens at which the curve first reaches an overlap, interpolated.

        Those of its first point if that is above the overlap; nan if none is.
        """
        reached = np.maximum.accumulate(self.overlap)
        if level > reached[-1]:
            return float("nan")
        # Where noise lets the curve fall, its highest value so far counts.
        at = int(np.argmax(reached >= level))
        if at == 0:
            return float(self.tokens[0])
        share = (level - reached[at - 1]) / (reached[at] - reached[at - 1])
        return float(self.tokens[at - 1] + share * (self.tokens[at] - self.tokens[at - 1]))


def show_costs(
    curves: Sequence[Curve], title: str, unit: float, digits: int, result: ResultFile
) -> None:
    """Tokens for each overlap, in a unit, and their ratio to the first curve's."""

    def cell(curve: Curve, level: float) -> str:
        mine, uniform = curve.tokens_for(level), curves[0].tokens_for(level)
        return "-" if np.isnan(mine) else f"{mine / unit:.{digits}f}  {mine / uniform:.2f}"

    rows = [[curve.name, *(cell(curve, level) for level in LEVELS)] for curve in curves]
    result.table(title, ["way", *(f"{level:.2f}" for level in LEVELS)], rows)


def show_designs(curves: Sequence[Curve], result: ResultFile) -> None:
    """What each uniform or chosen design found."""
    rows = [
        [curve.name, label, f"{tokens / 1e3:.0f}", f"{overlap:.3f}"]
        for curve in curves
        for label, tokens, overlap in zip(curve.labels, curve.tokens, curve.overlap, strict=True)
    ]
    columns = ["way", "n x k", "thousand tokens", "overlap"]
    result.table("mean overlap with the reference", columns, rows)


def show_repeats(
    repeats: Sequence[tuple[str, float, float, float, float]], result: ResultFile
) -> None:
    """Observed and expected overlap of repeats."""
    result.table(
        "overlap of the top N with a repeat on other instances and perturbations",
        ["n x k", "observed", "expected", "difference", "mean miss", "thousand tokens"],
        [
            [
                design,
                *(f"{value:.3f}" for value in (observed, expected)),
                f"{expected - observed:+.3f}",
                f"{miss:.3f}",
                f"{tokens / 1e3:.0f}",
            ]
            for design, observed, expected, miss, tokens in repeats
        ],
    )
