"""Where the time and the tokens of a run went."""

from __future__ import annotations

from typing import Any

import altair as alt

from training.report.charts.specification import Specification, specification


def cost_chart() -> Specification:
    """The chart of data `seconds` and `tokens`: `round`, `what`, `amount`, `order`."""
    both = alt.vconcat(_bars("seconds", ",.0f"), _bars("tokens", "~s"))
    return specification(both.resolve_scale(color="independent"))


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
