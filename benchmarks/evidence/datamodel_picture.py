"""The picture of a datamodel."""

from __future__ import annotations

from pathlib import Path

import altair as alt

from benchmarks.evidence.datamodel_tables import PROBABILITY, UNCERTAINTY, Runs
from benchmarks.evidence.task_subsets import given, spread_of_means
from training.report.charts.picture import write_picture


def draw_picture(runs: Runs, file: Path) -> None:
    """Score against U, both without what P says of them; a mark per subset."""
    p = runs.x(PROBABILITY)
    unit = spread_of_means(runs.column(UNCERTAINTY), runs.n_tasks)
    kinds = [runs.frame["kind"][rows[0]] for rows in runs.of_subset.values()]
    rows = [
        {"u": u, "y": y, "draw": kind}
        for u, y, kind in zip(
            given(runs.x(UNCERTAINTY), p).tolist(),
            given(runs.y("rouge_l"), p).tolist(),
            kinds,
            strict=True,
        )
    ]
    base = alt.Chart(alt.NamedData("runs")).encode(
        x=alt.X(
            "u:Q", title=f"mean U given P, in standard deviations of uniform draws ({unit:.3f})"
        ),
        y=alt.Y("y:Q", title="ROUGE-L given P"),
    )
    chart = alt.layer(
        base.mark_point(filled=True).encode(color=alt.Color("draw:N", title=None, sort=None)),
        base.transform_regression("u", "y").mark_line(),
    )
    write_picture(file, chart.properties(width=440, height=320), {"runs": rows})
