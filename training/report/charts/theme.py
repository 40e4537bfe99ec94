"""Colours and type of all charts, on light and on dark ground."""

from __future__ import annotations

from typing import Any

from engine.measures.task_map import CATEGORIES

MEANINGS = {
    "ambiguous": "high uncertainty",
    "easy": "low uncertainty, high probability",
    "difficult": "low uncertainty, low probability",
    "unmeasurable": "no perturbed prompt differs from the original",
}
"""What the map's categories mean."""

SHAPES = dict(zip(CATEGORIES, ("circle", "triangle-up", "square"), strict=True))
"""The mark of each category: colour alone does not tell them apart for everybody."""

Theme = dict[str, Any]
"""A Vega-Lite config."""


def _theme(ground: str, ink: str, soft: str, line: str, colours: tuple[str, ...]) -> Theme:
    return {
        "background": ground,
        "font": "system-ui, Liberation Sans, Arial, sans-serif",
        "view": {"stroke": None},
        "axis": {
            "labelColor": soft,
            "titleColor": ink,
            "titleFontWeight": "normal",
            "titleFontSize": 12,
            "labelFontSize": 11,
            "labelLimit": 220,
            "gridColor": line,
            "domainColor": soft,
            "tickColor": soft,
        },
        "legend": {
            "labelColor": ink,
            "labelFontSize": 11,
            "orient": "top",
            "labelLimit": 320,
        },
        "title": {"color": ink, "anchor": "start", "frame": "group", "fontSize": 13},
        "range": {"category": list(colours)},
        "style": {
            "ring": {"color": ink, "opacity": 1, "filled": False, "strokeWidth": 1.5},
            "border": {"color": soft, "strokeDash": [5, 4]},
            "region": {"color": soft, "fontStyle": "italic", "fontSize": 11},
            "ink": {"color": ink, "opacity": 1},
            "words": {"color": ink, "fontSize": 11},
        },
    }


# Okabe and Ito's colours, which colour-blind readers can tell apart; lighter ones on dark ground.
LIGHT = _theme(
    "#ffffff",
    "#1d1f23",
    "#5a606a",
    "#e4e6ea",
    ("#D55E00", "#009E73", "#0072B2", "#CC79A7", "#7A6A00", "#56B4E9", "#666666", "#222222"),
)
DARK = _theme(
    "#16181c",
    "#eceef1",
    "#a8afbb",
    "#30343c",
    ("#F28E4B", "#2FC79B", "#56A9E0", "#E59CC4", "#E0CC4A", "#9AD3F5", "#BBBBBB", "#EEEEEE"),
)
