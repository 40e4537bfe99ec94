"""Learning curves: what held-out tasks score, against how many tasks were trained on."""

from __future__ import annotations

import altair as alt


def curve_chart(*, several: bool = False) -> alt.TopLevelSpec:
    """The chart of data `curve`: `run`, `metric`, `trained`, `value`, `low`, `high`.

    Args:
        several: Whether there are several runs, which then have a colour each.
    """
    legend = alt.Legend(symbolOpacity=1) if several else None
    base = alt.Chart(alt.NamedData("curve")).encode(
        x=alt.X("trained:Q", title="tasks trained on", axis=alt.Axis(tickMinStep=1, grid=False)),
        y=alt.Y("value:Q", title="score on held-out tasks, 0 to 100", scale=alt.Scale(zero=False)),
        color=alt.Color("run:N", title=None, legend=legend, sort=None),
        tooltip=["run:N", "metric:N", "trained:Q", "value:Q", "low:Q", "high:Q"],
    )
    band = base.mark_area(opacity=0.14).encode(y="low:Q", y2="high:Q")
    line = base.mark_line(point=alt.OverlayMarkDef(filled=True, size=45), strokeWidth=2)
    both = alt.layer(band, line).properties(width=300, height=220)
    panels = (
        both.transform_filter(alt.datum.metric == metric).properties(title=metric)
        for metric in ("ROUGE-L", "exact match")
    )
    return alt.concat(*panels, columns=2)
