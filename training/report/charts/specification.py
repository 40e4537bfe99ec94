"""What every chart becomes: Vega-Lite, as JSON has it."""

from __future__ import annotations

from typing import Any

Specification = dict[str, Any]
"""A chart without its data, which it names, and without a config: the theme is the reader's."""


def specification(chart: Any) -> Specification:
    """Of an Altair chart, checked against the schema of Vega-Lite."""
    spec: Specification = chart.to_dict()
    del spec["config"]
    return spec
