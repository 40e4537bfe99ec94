"""Charts outside a browser: as PNG and SVG, and the script that draws them inside one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

from engine.files import write_bytes
from training.report.charts.theme import DARK, LIGHT

Data = Mapping[str, Sequence[Mapping[str, Any]]]
"""Rows by the name that a specification gives its data."""

PICTURES = (".png", ".svg")
"""Endings of the files that can be drawn."""


def write_picture(path: Path, chart: alt.TopLevelSpec, data: Data, *, dark: bool = False) -> None:
    """Draw a chart as a file that ends in one of `PICTURES`; PNG at 200 dots per inch."""
    spec = {**chart.to_dict(), "datasets": data, "config": DARK if dark else LIGHT, "padding": 12}
    text = json.dumps(spec, allow_nan=False)
    if path.suffix == ".svg":
        content = vl_convert.vegalite_to_svg(text, vl_version=VERSION).encode()
    else:
        content = vl_convert.vegalite_to_png(text, vl_version=VERSION, scale=2, ppi=100)
    write_bytes(path, content)


@cache
def drawing_script() -> str:
    """JavaScript that puts `vegaEmbed` on the window; 0.9 MB that take seconds to bundle."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VERSION)


VERSION = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
"""Of Vega-Lite: the one whose schema Altair checks specifications by."""
