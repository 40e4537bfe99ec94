"""How firm a selection is: the ranks that repeats of the measurement would give to tasks."""

from __future__ import annotations

import altair as alt

from training.report.charts.specification import Specification, specification


def rank_chart() -> Specification:
    """The chart of data `ranks`: `task`, `rank`, `low`, `high`, `group`; and `cut`: `rank`."""
    base = alt.Chart(alt.NamedData("ranks")).encode(
        y=alt.Y("task:N", title=None, sort=None, axis=alt.Axis(labelLimit=200)),
        color=alt.Color(
            "group:N", title=None, scale=alt.Scale(domain=["selected", "next in rank"])
        ),
        tooltip=["task:N", "rank:Q", "low:Q", "high:Q"],
    )
    x = alt.X(
        "rank:Q",
        title="rank, and where 9 of 10 repeats put it",
        scale=alt.Scale(nice=False, padding=8),
        axis=alt.Axis(tickMinStep=1),
    )
    whole = alt.layer(
        base.mark_rule(strokeWidth=3, opacity=0.7).encode(x="low:Q", x2="high:Q"),
        base.mark_point(filled=True, size=60).encode(x=x),
        alt.Chart(alt.NamedData("cut")).mark_rule(style="border").encode(x="rank:Q"),
    )
    return specification(whole.properties(width=460, height=alt.Step(18)))
