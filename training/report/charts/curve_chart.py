"""Learning curves: what held-out tasks score, against how many tasks were trained on."""

from __future__ import annotations

import altair as alt

from training.report.charts.specification import Specification, specification


def curve_chart(*, several: bool = False) -> Specification:
    """The chart of data `curve`: `run`, `metric`, `trained`, `value`, `low`, `high`.

    Args:
        several: Whether there are several runs, which then have a colour each.
    """
    legend = alt.Legend(symbolOpacity=1) if several else None
    base = alt.Chart().encode(
        x=alt.X("trained:Q", title="tasks trained on", axis=alt.Axis(tickMinStep=1, grid=False)),
        y=alt.Y("value:Q", title="score on held-out tasks, 0 to 100", scale=alt.Scale(zero=False)),
        color=alt.Color("run:N", title=None, legend=legend, sort=None),
        tooltip=["run:N", "metric:N", "trained:Q", "value:Q", "low:Q", "high:Q"],
    )
    band = base.mark_area(opacity=0.14).encode(y="low:Q", y2="high:Q")
    line = base.mark_line(point=alt.OverlayMarkDef(filled=True, size=45), strokeWidth=2)
    both = alt.layer(band, line, data=alt.NamedData("curve")).properties(width=300, height=220)
    panels = both.facet(facet=alt.Facet("metric:N", title=None, sort=None), columns=2)
    return specification(panels.resolve_scale(y="independent"))
