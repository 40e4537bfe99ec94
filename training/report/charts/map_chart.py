"""The task map: prompt uncertainty against prediction probability, a mark per task."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import altair as alt

from engine.measures.task_map import CATEGORIES
from training.report.charts.theme import MEANINGS, SHAPES

WIDTH, HEIGHT = 340, 300


def map_chart(top: float, suffix: str = "") -> alt.TopLevelSpec:
    """The chart of one map.

    Its data are `tasks` (`u`, `p`, `colour`: a map category, `selected`, `number`: what stands
    beside the mark, if anything, `dx` pixels to the right and `dy` downwards), `borders` (one row:
    `u` and `p`), `regions` (`words` that stand below `u` and end at `p`, or begin at 0) and `focus`
    (tasks that are pointed at, with `low` and `high`: U less and plus its standard error).

    Args:
        top: Where the axis of prompt uncertainty ends.
        suffix: Of the names of its data.
    """
    tasks, borders, regions, focus = (
        alt.Chart(alt.NamedData(f"{name}{suffix}"))
        for name in ("tasks", "borders", "regions", "focus")
    )
    x = alt.X(
        "p:Q",
        title="prediction probability P",
        scale=alt.Scale(domain=[0, 1], padding=8, nice=False, zero=False),
        axis=alt.Axis(grid=False, tickCount=6),
    )
    y = alt.Y(
        "u:Q",
        title="prompt uncertainty U",
        scale=alt.Scale(domain=[0, top or 1.0], padding=8, nice=False),
        axis=alt.Axis(tickCount=6),
    )
    base = tasks.encode(x, y)
    shapes = alt.Scale(domain=list(SHAPES), range=list(SHAPES.values()))
    meanings = {name: f"{name}: {MEANINGS[name]}" for name in CATEGORIES}
    legend = alt.Legend(columns=1, labelExpr=f"{json.dumps(meanings)}[datum.label]")
    # Marks get smaller and fainter where there are many.
    many = f"length(data('tasks{suffix}'))"
    marks = base.mark_point(filled=True, opacity=alt.expr(f"{many} > 2000 ? 0.5 : 0.8")).encode(
        color=alt.Color(
            "colour:N", title=None, scale=alt.Scale(domain=list(CATEGORIES)), legend=legend
        ),
        shape=alt.Shape("colour:N", title=None, scale=shapes, legend=legend),
        size=alt.value(alt.expr(f"{many} > 2000 ? 18 : {many} > 400 ? 34 : 45")),
    )
    numbers = base.transform_filter("datum.number").mark_text(
        style="words", fontWeight="bold", dx=alt.expr("datum.dx"), dy=alt.expr("datum.dy")
    )
    words = regions.mark_text(
        style="region", baseline="top", dy=4, align=alt.expr("datum.p ? 'right' : 'left'")
    )
    reach = focus.mark_rule(style="ink", strokeWidth=2, clip=True)
    return alt.layer(
        borders.mark_rule(style="border").encode(y="u:Q"),
        borders.mark_rule(style="border").encode(x="p:Q", y="u:Q", y2=alt.datum(0)),
        words.encode(x, y, text="words:N"),
        marks,
        base.mark_point(style="ring", size=110).transform_filter("datum.selected"),
        numbers.encode(text="number:N"),
        reach.encode(x=x, y="low:Q", y2="high:Q"),
        focus.mark_point(style="ring", size=330, strokeWidth=2.5).encode(x, y),
    ).properties(width=WIDTH, height=HEIGHT)


def map_panels(top: float, titles: Sequence[str], *, keyed: bool) -> alt.TopLevelSpec:
    """Maps that share their axes. The names of each one's data end in its index.

    Args:
        keyed: Whether a key beside each names the numbered tasks: data `key`, `number` and `label`.
    """
    drawn = []
    for index, title in enumerate(titles):
        chart = map_chart(top, str(index)).properties(title=title)
        drawn.append(alt.hconcat(chart, _key(str(index))) if keyed else chart)
    # Two with their keys beside each other would be too wide for a column of text.
    return alt.concat(*drawn, columns=1 if len(drawn) <= 2 else 2)


def _key(suffix: str) -> Any:
    """The names that the numbers beside marks stand for."""
    title = alt.TitleParams("ringed: selected", fontSize=11)
    key = alt.Chart(alt.NamedData(f"key{suffix}"), title=title)
    return (
        key.mark_text(style="words", align="left", x=0)
        .encode(y=alt.Y("number:O", axis=None, sort=None), text=alt.Text("label:N"))
        .properties(width=140, height=alt.Step(17))
    )
