"""What an engine does a second, against how long a request takes, from load to load."""

from __future__ import annotations

import altair as alt


def load_chart(unit: str) -> alt.TopLevelSpec:
    """The chart of data `loads`.

    Its rows hold `way`, `load`, `order`, `rate`, `rate_low`, `rate_high`, `p50` and `p95`.

    Args:
        unit: What is done, such as `pairs`.
    """
    base = alt.Chart(alt.NamedData("loads")).encode(
        x=alt.X("rate:Q", title=f"{unit} a second", scale=alt.Scale(domainMin=0)),
        color=alt.Color("way:N", title=None, sort=None),
        tooltip=["way:N", "load:N", "rate:Q", "rate_low:Q", "rate_high:Q", "p50:Q", "p95:Q"],
    )
    y = alt.Y(
        "p50:Q",
        title="seconds a request takes: median, up to the 95th percentile",
        scale=alt.Scale(type="log"),
        axis=alt.Axis(format="~g", tickCount=5),
    )
    whole = alt.layer(
        base.mark_line(strokeWidth=1.5, opacity=0.6).encode(y=y, order="order:Q"),
        base.mark_rule(strokeWidth=2, opacity=0.5).encode(y=y, y2="p95:Q"),
        base.mark_rule(strokeWidth=2, opacity=0.5).encode(x="rate_low:Q", x2="rate_high:Q", y=y),
        base.mark_point(filled=True, size=60).encode(y=y),
        base.mark_text(dx=8, dy=12, align="left", style="words").encode(y=y, text="load:N"),
    )
    return whole.properties(width=480, height=320)
