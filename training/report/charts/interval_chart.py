"""Values and how firm each is: a point on a line from low to high, a row each."""

from __future__ import annotations

from typing import Any

import altair as alt


def rank_chart() -> alt.TopLevelSpec:
    """How firm a selection is: the ranks that repeats of the measurement would give to tasks.

    The chart of data `ranks`: `task`, `rank`, `low`, `high`, `group`; and `cut`: `rank`.
    """
    x = alt.X(
        "rank:Q",
        title="rank, and where 9 of 10 repeats put it",
        scale=alt.Scale(nice=False, padding=8),
        axis=alt.Axis(tickMinStep=1, tickCount=10),
    )
    groups = alt.Scale(domain=["selected", "next in rank"])
    cut = alt.Chart(alt.NamedData("cut")).encode(x="rank:Q")
    return _intervals(
        "ranks", "task:N", x, cut, color=alt.Color("group:N", title=None, scale=groups)
    )


def difference_chart() -> alt.TopLevelSpec:
    """Paired differences: the chart of data `differences`: `pair`, `value`, `low`, `high`, `p`."""
    x = alt.X("value:Q", title="difference of ROUGE-L on the same held-out tasks")
    zero = alt.Chart(alt.NamedData("differences")).encode(x=alt.XDatum(0, type="quantitative"))
    return _intervals("differences", "pair:N", x, zero, "p:Q")


def _intervals(
    data: str, row: str, x: Any, line: Any, *told: str, **encoding: Any
) -> alt.TopLevelSpec:
    """Rows with intervals, and a dashed line across them; `told` are further fields on hover."""
    y = alt.Y(row, title=None, sort=None, axis=alt.Axis(labelLimit=260))
    shown = [row, x["shorthand"], "low:Q", "high:Q", *told]
    base = alt.Chart(alt.NamedData(data)).encode(y=y, tooltip=shown, **encoding)
    whole = alt.layer(
        base.mark_rule(style="ink", strokeWidth=3, opacity=0.7).encode(x="low:Q", x2="high:Q"),
        base.mark_point(style="ink", filled=True, size=60).encode(x=x),
        line.mark_rule(style="border"),
    )
    return whole.properties(width=440, height=alt.Step(20))
