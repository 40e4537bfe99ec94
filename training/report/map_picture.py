"""The task map as a picture. The only file that imports matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
import polars as pl
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D

from engine.files import replacing
from engine.measures.task_map import Thresholds, find_thresholds
from training.report.label_placement import place_labels
from training.run.run_folder import RunFolder

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = {"ambiguous": "#D55E00", "easy": "#009E73", "difficult": "#0072B2"}
MEANINGS = {
    "ambiguous": "ambiguous (high uncertainty)",
    "easy": "easy (low uncertainty, high probability)",
    "difficult": "difficult (low uncertainty, low probability)",
}
INK = "#222222"
_DOT_POINTS = 3.5
_RING_POINTS = 6.0
_LONGEST_LABEL = 26


@dataclass(frozen=True)
class Panel:
    """One round of the map.

    Attributes:
        title: Above the panel.
        scores: The columns of `scores.parquet`.
        thresholds: The borders of the map; at the medians if there are none.
    """

    title: str
    scores: pl.DataFrame
    thresholds: Thresholds | None = None


def draw_run(folder: RunFolder) -> Path:
    """Draw the task map of all scored rounds, as `task_map.png` in the run folder."""
    panels = []
    for each in folder.rounds():
        if each.scores.is_file():
            scores = each.read_scores()
            with_whom = (
                "the base model" if each.index == 0 else f"the model of round {each.index - 1}"
            )
            title = f"Round {each.index}: {scores.height} tasks, scored by {with_whom}"
            panels.append(Panel(title, scores))
    with replacing(folder.task_map) as part:
        draw_task_map(panels, part)
    return folder.task_map


def draw_task_map(panels: Sequence[Panel], path: Path, dpi: int = 200) -> None:
    """Scatter prompt uncertainty against prediction probability, a panel per round.

    All panels share their axes, so that a task can be followed from round to round. Selected tasks
    carry a ring and their name. Tasks that could not be measured are counted in the title.

    Args:
        panels: At least one.
        path: PNG file to write.
        dpi: Dots per inch; 200 is twice the usual.
    """
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    width = 6.6 * columns if columns > 1 else 7.6
    figure, grid = plt.subplots(
        rows, columns, figsize=(width, 5.0 * rows + 0.7), squeeze=False, sharex=True, sharey=True
    )
    figure.set_dpi(dpi)
    axes = [axis for line in grid for axis in line]
    panels = [_measured(panel) for panel in panels]
    top = max(
        float(panel.scores["prompt_uncertainty"].to_numpy().max(initial=0.0)) for panel in panels
    )
    for axis in axes:
        axis.set_xlim(-0.03, 1.03)
        axis.set_ylim(-0.04 * top, top * 1.14 or 1.0)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    for index, (axis, panel) in enumerate(zip(axes, panels, strict=False)):
        _draw_panel(axis, panel)
        if index % columns == 0:
            axis.set_ylabel("prompt uncertainty U")
    for axis in grid[-1]:
        axis.set_xlabel("prediction probability P")
    handles, labels = _legend()
    figure.legend(handles, labels, loc="lower center", ncols=2, frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0.55 / figure.get_figheight(), 1, 1))
    # Labels are placed last: their boxes are only right once the layout stands.
    figure.canvas.draw()
    for axis, panel in zip(axes, panels, strict=False):
        _label_selected(axis, panel.scores)
    figure.savefig(path, dpi=dpi, facecolor="white", format="png")
    plt.close(figure)


def _draw_panel(axis: Any, panel: Panel) -> None:
    scores = panel.scores
    axis.set_title(panel.title, fontsize=10.5, color=INK, loc="left")
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color("#999999")
    axis.tick_params(colors="#555555", labelsize=8.5, labelbottom=True, labelleft=True)
    if scores.is_empty():
        return
    # Above the line is ambiguous; below it, the second line parts difficult from easy.
    borders = panel.thresholds or find_thresholds(scores)
    u, p = borders.uncertainty, borders.probability
    axis.axhline(u, color="#BBBBBB", linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    axis.vlines(p, -1, u, color="#BBBBBB", linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    for category, colour in COLOURS.items():
        part = scores.filter(pl.col("map_category") == category)
        axis.scatter(
            part["prediction_probability"],
            part["prompt_uncertainty"],
            s=34,
            color=colour,
            alpha=0.8,
            linewidths=0,
            zorder=2,
        )
    chosen = _selected(scores)
    axis.scatter(
        chosen["prediction_probability"],
        chosen["prompt_uncertainty"],
        s=95,
        facecolors="none",
        edgecolors=INK,
        linewidths=1.3,
        zorder=3,
    )


def _measured(panel: Panel) -> Panel:
    """The panel without the tasks that have no place on it, which its title then counts."""
    scores = panel.scores.drop_nulls("prompt_uncertainty")
    if left := panel.scores.height - scores.height:
        return replace(panel, title=f"{panel.title}; {left} unmeasurable", scores=scores)
    return panel


def _selected(scores: pl.DataFrame) -> pl.DataFrame:
    chosen = scores.filter(pl.col("selected").fill_null(value=False))
    return chosen.sort("prompt_uncertainty", descending=True)


def _legend() -> tuple[list[Any], list[str]]:
    dots = [
        Line2D([], [], marker="o", linestyle="", color=colour, alpha=0.8, markersize=6)
        for colour in COLOURS.values()
    ]
    ring = Line2D(
        [], [], marker="o", linestyle="", markerfacecolor="none", markeredgecolor=INK, markersize=9
    )
    return [*dots, ring], [*(MEANINGS[name] for name in COLOURS), "selected for training"]


def _label_selected(axis: Any, scores: pl.DataFrame) -> None:
    """Name the selected tasks, the most uncertain first."""
    renderer = axis.figure.canvas.get_renderer()
    points_per_pixel = 72 / axis.figure.dpi
    order = scores.sort("prompt_uncertainty", descending=True)
    places = np.column_stack(
        [order["prediction_probability"].to_numpy(), order["prompt_uncertainty"].to_numpy()]
    )
    centres = axis.transData.transform(places) * points_per_pixel
    ringed = order["selected"].fill_null(value=False).to_numpy()
    reach = np.where(ringed, _RING_POINTS, _DOT_POINTS)[:, None]
    texts: list[Any] = []
    labels: list[tuple[int, float, float]] = []
    for index in np.flatnonzero(ringed).tolist():
        text = axis.annotate(
            _shorten(order["task_id"][index]),
            places[index],
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=7.5,
            color=INK,
            zorder=4,
            arrowprops={"arrowstyle": "-", "color": "#777777", "linewidth": 0.6, "shrinkB": 4},
        )
        extent = text.get_window_extent(renderer)
        texts.append(text)
        labels.append((index, extent.width * points_per_pixel, extent.height * points_per_pixel))
    frame = axis.get_window_extent(renderer).extents * points_per_pixel
    dots = np.hstack([centres - reach, centres + reach])
    for text, offset in zip(texts, place_labels(dots, labels, tuple(frame)), strict=True):
        text.set_position(offset)


def _shorten(name: str) -> str:
    """Long names lose their middle: what tells tasks apart stands at both ends."""
    if len(name) <= _LONGEST_LABEL:
        return name
    return f"{name[:8]}\N{HORIZONTAL ELLIPSIS}{name[9 - _LONGEST_LABEL :]}"
