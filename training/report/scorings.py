"""The scorings that a map or a report shows: one of `jostle score`, or one per round of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import polars as pl

from engine.measures.task_map import MapConfig, Thresholds
from training.report.charts.map_chart import CORNERS, HEIGHT, WIDTH, Panel, map_panels
from training.report.charts.picture import write_picture
from training.report.map_table import map_table
from training.run.run_folder import RunFolder
from training.run.summary import unmeasurable_in_words

_MOST_NAMED = 15
"""Selected tasks that a picture numbers and names; of more it shows the rings alone."""

_LONGEST_NAME = 26


@dataclass(frozen=True)
class Scoring:
    """A scored pool on the map.

    Attributes:
        name: `round 0`, say.
        table: What `map_table` gives.
        thresholds: The borders of the map.
        selected: Ids of the selected tasks, first choice first.
        round_index: The round it belongs to, if it is one of a run.
    """

    name: str
    table: pl.DataFrame
    thresholds: Thresholds
    selected: tuple[str, ...] = ()
    round_index: int | None = None

    @classmethod
    def of(
        cls,
        name: str,
        table: pl.DataFrame,
        thresholds: Thresholds,
        selected: Sequence[str] | None = None,
    ) -> Self:
        """As made; the column `selected` counts where no ids are given, largest U first."""
        if selected is None:
            marked = table.filter(pl.col("selected").fill_null(value=False))
            selected = marked.sort("prompt_uncertainty", descending=True)["task_id"].to_list()
        return cls(name, table, thresholds, tuple(selected))

    @property
    def about(self) -> str:
        """How many tasks, by which weights, and where the borders are."""
        weights = self.table.get_column("weights_version", default=pl.Series([""]))[0]
        left = unmeasurable_in_words(self.table["prompt_uncertainty"].null_count())
        return (
            f"{self.table.height:,} tasks{f', weights {weights}' if weights else ''}. Ambiguous "
            f"above U = {self.thresholds.uncertainty:.4f}; below it easy from P = "
            f"{self.thresholds.probability:.4f} on, difficult with less{left}."
        )


def scorings_of(folder: RunFolder, config: MapConfig | None = None) -> list[Scoring]:
    """The scored rounds of a run in which at least one task could be measured.

    Args:
        config: Where the borders are; at the medians of each round by default.
    """
    found = []
    for each in folder.rounds():
        if not each.scores.is_file():
            continue
        scores = each.read_scores()
        if scores["prompt_uncertainty"].count() == 0:
            continue
        selected = each.read_selection().task_ids if each.selection.is_file() else ()
        table, thresholds = map_table(scores, config, selected=selected, source=each.scores)
        found.append(Scoring(f"round {each.index}", table, thresholds, selected, each.index))
    return found


def largest_uncertainty(scorings: Sequence[Scoring]) -> float:
    """Of all tasks and borders: where the axis that all maps share ends."""
    uncertain = [
        each.table["prompt_uncertainty"].drop_nulls().to_numpy().max() for each in scorings
    ]
    return max(*map(float, uncertain), *(each.thresholds.uncertainty for each in scorings))


def draw_map(path: Path, scorings: Sequence[Scoring], *, dark: bool = False) -> None:
    """The task map as PNG or SVG, a panel per scoring; all panels share their axes.

    Selected tasks carry a ring and, where they are few, a number that a key explains. Tasks that
    could not be measured are counted in the title.

    Args:
        scorings: At least one.
        path: See `training.report.charts.picture.PICTURES`.
    """
    top = 1.08 * largest_uncertainty(scorings)
    panels: list[Panel] = []
    data: dict[str, Any] = {}
    for index, each in enumerate(scorings):
        left = each.table["prompt_uncertainty"].null_count()
        title = f"{each.name}: {each.table.height:,} tasks{unmeasurable_in_words(left)}"
        rows, key = marks_of(each, top)
        data |= {f"tasks{index}": rows, f"key{index}": key, f"focus{index}": []}
        data[f"borders{index}"] = [borders(each.thresholds, top)]
        panels.append(Panel(title, each.table.height, keyed=bool(key)))
    write_picture(path, map_panels(top, panels), data, dark=dark)


def borders(thresholds: Thresholds, top: float) -> dict[str, float]:
    """The row of a map chart's data `borders`."""
    return {"u": thresholds.uncertainty, "p": thresholds.probability, "bottom": 0.0, "top": top}


def marks_of(scoring: Scoring, top: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of the data `tasks` and `key`."""
    few = len(scoring.selected) <= _MOST_NAMED
    numbers = {task_id: rank for rank, task_id in enumerate(scoring.selected if few else (), 1)}
    rows = [
        {
            "u": row["prompt_uncertainty"],
            "p": row["prediction_probability"],
            "colour": row["map_category"],
            "selected": bool(row["selected"]),
            "number": numbers.get(row["task_id"]),
        }
        for row in scoring.table.drop_nulls("prompt_uncertainty").iter_rows(named=True)
    ]
    _place_numbers([row for row in rows if row["number"]], top)
    key = [
        {"number": rank, "label": f"{rank}  {_shorten(task_id)}"}
        for task_id, rank in numbers.items()
    ]
    return rows, key


def _place_numbers(rows: list[dict[str, Any]], top: float) -> None:
    """Give each numbered mark the `corner` at which its number hides least of the others."""
    at = [(row["p"] * WIDTH, row["u"] / (top or 1.0) * HEIGHT) for row in rows]
    taken = list(at)
    for row, (x, y) in zip(rows, at, strict=True):
        places = [(x + 1.8 * right, y + up) for right, up in CORNERS]
        hidden = [sum(abs(a - x) < 17 and abs(b - y) < 12 for a, b in taken) for x, y in places]
        row["corner"] = hidden.index(min(hidden))
        taken += 2 * [places[row["corner"]]]  # a number on another is worse than one on a ring


def _shorten(name: str) -> str:
    """Long names lose their middle: what tells tasks apart stands at both ends."""
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[:8]}\N{HORIZONTAL ELLIPSIS}{name[9 - _LONGEST_NAME :]}"
