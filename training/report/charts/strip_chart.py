"""The probabilities behind one task's uncertainty: a strip per instance."""

from __future__ import annotations

import altair as alt


def strip_chart() -> alt.TopLevelSpec:
    """The chart of data `pairs`: `instance`, `j`, `p`, `kind`."""
    scale = alt.Scale(domain=[0, 1], padding=6, nice=False)
    base = alt.Chart(alt.NamedData("pairs")).encode(
        x=alt.X("p:Q", title="p(i, j)", scale=scale, axis=alt.Axis(tickCount=6)),
        y=alt.Y("instance:N", title="instance", sort=None, axis=alt.Axis(labelLimit=110)),
        tooltip=["instance:N", "j:Q", alt.Tooltip("p:Q", format=".4f")],
    )
    order = ["perturbed", "answer kept", "answer flips"]
    ticks = base.mark_tick(thickness=2, height={"band": 0.7}, opacity=0.8).encode(
        color=alt.Color("kind:N", title=None, sort=order)
    )
    original = base.mark_point(style="ring", size=90, strokeWidth=2)
    both = alt.layer(
        ticks.transform_filter("datum.j > 0"), original.transform_filter("datum.j === 0")
    )
    return both.properties(width=300, height=alt.Step(20))
