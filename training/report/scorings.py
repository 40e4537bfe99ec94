"""The scorings that a map or a report shows: one of `jostle score`, or one per round of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from engine.measures.task_map import MapConfig, Thresholds
from training.report.charts.map_chart import HEIGHT, WIDTH, map_panels
from training.report.charts.picture import write_picture
from training.report.map_table import map_table
from training.report.number_places import place_numbers
from training.run.run_folder import RunFolder
from training.run.summary import unmeasurable_in_words

_MOST_NUMBERED = 15
"""Selected tasks whose marks carry a number; of more a map shows the rings alone."""

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
    titles: list[str] = []
    data: dict[str, Any] = {}
    for index, each in enumerate(scorings):
        left = each.table["prompt_uncertainty"].null_count()
        titles.append(f"{each.name}: {each.table.height:,} tasks{unmeasurable_in_words(left)}")
        rows, key = marks_of(each, top)
        data |= {f"tasks{index}": rows, f"key{index}": key, f"focus{index}": []}
        data[f"borders{index}"] = [borders(each.thresholds)]
        data[f"regions{index}"] = regions(each.thresholds, top)
    keyed = any(data[f"key{index}"] for index in range(len(titles)))
    write_picture(path, map_panels(top, titles, keyed=keyed), data, dark=dark)


def borders(thresholds: Thresholds) -> dict[str, float]:
    """The row of a map chart's data `borders`."""
    return {"u": thresholds.uncertainty, "p": thresholds.probability}


def regions(thresholds: Thresholds, top: float) -> list[dict[str, Any]]:
    """Rows of a map chart's data `regions`: each word below the upper end of its own."""
    return [
        {"words": "ambiguous", "p": 1, "u": top},
        {"words": "easy", "p": 1, "u": thresholds.uncertainty},
        {"words": "difficult", "p": 0, "u": thresholds.uncertainty},
    ]


def marks_of(scoring: Scoring, top: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of the data `tasks` and `key`."""
    numbers = numbers_of(scoring, top)
    rows = [
        {
            "u": row["prompt_uncertainty"],
            "p": row["prediction_probability"],
            "colour": row["map_category"],
            "selected": bool(row["selected"]),
            **numbers.get(row["task_id"], {}),
        }
        for row in scoring.table.drop_nulls("prompt_uncertainty").iter_rows(named=True)
    ]
    key = [
        {"number": each["number"], "label": f"{each['number']}  {_shorten(task_id)}"}
        for task_id, each in numbers.items()
    ]
    return rows, key


def numbers_of(
    scoring: Scoring, top: float, size: tuple[int, int] = (WIDTH, HEIGHT)
) -> dict[str, dict[str, int]]:
    """Of the selected tasks, if they are few: `number`, their rank, and where it stands.

    Args:
        size: Of the map, in pixels.
    """
    table = scoring.table.drop_nulls("prompt_uncertainty")
    places = {task_id: place for place, task_id in enumerate(table["task_id"])}
    ranks = {each: rank for rank, each in enumerate(scoring.selected, 1) if each in places}
    if len(scoring.selected) > _MOST_NUMBERED:
        return {}
    u, p = (table[name].to_numpy() for name in ("prompt_uncertainty", "prediction_probability"))
    marks = np.column_stack([p * size[0], -u / (top or 1.0) * size[1]])
    beside = place_numbers(marks, [places[task_id] for task_id in ranks])
    return {
        task_id: {"number": rank, "dx": dx, "dy": dy}
        for (task_id, rank), (dx, dy) in zip(ranks.items(), beside, strict=True)
    }


def _shorten(name: str) -> str:
    """Long names lose their middle: what tells tasks apart stands at both ends."""
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[:8]}\N{HORIZONTAL ELLIPSIS}{name[9 - _LONGEST_NAME :]}"
