"""One HTML file that needs nothing else: no server, no network.

Data travel as base64 of gzip, so nothing that a task says can be markup, and a content security
policy forbids the page to ask anybody for anything.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

from engine.files import replacing
from training.report.charts.picture import drawing_script
from training.report.charts.theme import DARK, LIGHT, MEANINGS

BLOCK_TASKS = 25
"""Tasks whose details stand in one block, which is unpacked when one of them is looked at."""


def write_page(
    path: Path,
    data: Mapping[str, Any],
    charts: Mapping[str, Any],
    details: Iterable[Mapping[str, Any]] = (),
    *,
    title: str,
) -> None:
    """Write the page.

    Args:
        data: See `training.report.run_report.write_report`.
        charts: By the name of the element they are drawn in.
        details: Of the tasks `data["detailed"]`, in that order.
        title: Its heading.
    """
    whole = {
        **data,
        "charts": {name: chart.to_dict() for name, chart in charts.items()},
        "themes": {"light": LIGHT, "dark": DARK},
        "meanings": MEANINGS,
        "block_tasks": BLOCK_TASKS,
    }
    folder = resources.files("training.report").joinpath("page")
    page, *parts = (
        folder.joinpath(name).read_text(encoding="utf-8")
        for name in ("report.html", "report.css", "charts.js", "tasks.js", "report.js")
    )
    style, *scripts = parts
    script = _module(drawing_script()) + _module("\n".join(scripts))
    before, after = (
        page.replace("__TITLE__", html.escape(title)).replace("__STYLE__", style).split("__DATA__")
    )
    with replacing(path) as part, part.open("w", encoding="utf-8") as stream:
        stream.write(before)
        stream.write(_block("data", whole))
        for index, block in enumerate(_blocks(details)):
            stream.write(_block(f"details-{index}", block))
        head, tail = after.split("__SCRIPT__")
        stream.write(head + script + tail)


def _module(script: str) -> str:
    """A module: no name of one script is in the way of another. No text in it may end it."""
    escaped = script.replace("</script", "<\\/script")
    return f'<script type="module">\n{escaped}\n</script>\n'


def _blocks(details: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    source = iter(details)
    while block := list(islice(source, BLOCK_TASKS)):
        yield block


def _block(name: str, content: object) -> str:
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    packed = base64.b64encode(gzip.compress(text.encode("utf-8", "replace"), 6, mtime=0)).decode()
    return f'<script type="text/plain" id="{name}">{packed}</script>\n'
