"""Where the time and the tokens of a run went."""

from __future__ import annotations

from typing import Any

import altair as alt


def cost_chart() -> alt.TopLevelSpec:
    """The chart of data `seconds` and `tokens`: `round`, `what`, `amount`, `order`."""
    both = alt.concat(_bars("seconds", ",.0f"), _bars("tokens", "~s"), columns=1)
    whole: alt.TopLevelSpec = both.resolve_scale(color="independent")
    return whole


def _bars(unit: str, digits: str) -> Any:
    axis = alt.Axis(format=digits, tickCount=6)
    legend = alt.Legend(columns=2)
    bars = alt.Chart(alt.NamedData(unit)).mark_bar(height={"band": 0.7})
    return bars.encode(
        x=alt.X("amount:Q", title=unit, axis=axis, stack="zero"),
        y=alt.Y("round:N", title=None, sort=None),
        color=alt.Color("what:N", title=None, sort=alt.SortField("order"), legend=legend),
        order=alt.Order("order:Q"),
        tooltip=["round:N", "what:N", alt.Tooltip("amount:Q", format=",.1f", title=unit)],
    ).properties(width=480, height=alt.Step(28))
