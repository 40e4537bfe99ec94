"""The tables and the picture of `benchmarks.adaptive`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import altair as alt
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from training.report.charts.picture import write_picture
from training.report.charts.specification import specification

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


def draw_picture(curves: Sequence[Curve], title: str, file: Path) -> None:
    """Overlap against tokens."""
    rows = [
        {"way": curve.name, "tokens": tokens / 1e3, "overlap": overlap, "design": design}
        for curve in curves
        for tokens, overlap, design in zip(
            curve.tokens, curve.overlap, curve.labels or [""] * len(curve.tokens), strict=True
        )
    ]
    ticks = alt.Axis(values=[50, 100, 200, 500, 1000], grid=False)
    base = alt.Chart(alt.NamedData("curves")).encode(
        x=alt.X(
            "tokens:Q",
            title="computed tokens, thousands",
            scale=alt.Scale(type="log", nice=False),
            axis=ticks,
        ),
        y=alt.Y("overlap:Q", title="overlap with the reference", scale=alt.Scale(zero=False)),
        color=alt.Color("way:N", title=None, sort=None, legend=alt.Legend(orient="right")),
    )
    designs = base.transform_filter("datum.design")
    chart = alt.layer(
        base.mark_line(),
        designs.mark_point(filled=True),
        designs.transform_filter(alt.datum.way == curves[0].name)
        .mark_text(style="words", dx=-6, dy=-8, align="right")
        .encode(text="design:N", color=alt.Undefined),
        title=title,
    )
    spec = specification(chart.properties(width=440, height=320))
    write_picture(file, spec, {"curves": rows})
