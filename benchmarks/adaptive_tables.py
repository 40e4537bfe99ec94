"""The tables of `benchmarks.adaptive`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

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
    curves: Sequence[Curve], title: str, unit: float, digits: int, console: Console
) -> None:
    """Tokens for each overlap, in a unit, and their ratio to the first curve's."""
    table = Table(title=title)
    table.add_column("way")
    for level in LEVELS:
        table.add_column(f"{level:.2f}", justify="right")
    for curve in curves:
        cells = []
        for level in LEVELS:
            mine, uniform = curve.tokens_for(level), curves[0].tokens_for(level)
            shown = f"{mine / unit:.{digits}f}  {mine / uniform:.2f}"
            cells.append("-" if np.isnan(mine) else shown)
        table.add_row(curve.name, *cells)
    console.print(table)


def show_designs(curves: Sequence[Curve], console: Console) -> None:
    """What each uniform or chosen design found."""
    table = Table(title="mean overlap with the reference")
    for column in ("way", "n x k", "thousand tokens", "overlap"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for curve in curves:
        for label, tokens, overlap in zip(curve.labels, curve.tokens, curve.overlap, strict=True):
            table.add_row(curve.name, label, f"{tokens / 1e3:.0f}", f"{overlap:.3f}")
    console.print(table)


def show_repeats(rows: Sequence[tuple[str, float, float, float]], console: Console) -> None:
    """Observed and expected overlap of repeats."""
    table = Table(title="overlap of the top N with a repeat on other instances and perturbations")
    for column in ("n x k", "observed", "expected", "difference", "mean miss of one prediction"):
        table.add_column(column, justify="left" if column == "n x k" else "right")
    for design, observed, expected, miss in rows:
        difference = f"{expected - observed:+.3f}"
        table.add_row(design, f"{observed:.3f}", f"{expected:.3f}", difference, f"{miss:.3f}")
    console.print(table)
