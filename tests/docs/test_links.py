"""Links between pages lead somewhere; messages that pages explain are still said."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from engine.design.ranking_columns import RANKING_COLUMNS
from tests.docs.page_blocks import PAGES, ROOT
from training.tables.score_tables import PAIR_COLUMNS, SCORE_COLUMNS

LINK = re.compile(r"(?:\]\(|src(?:set)?=\")([^)\"\s]+)")
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(CODE.sub("", page.read_text())):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), f"{page}: {link}"
        assert not anchor or anchor in anchors(target), f"{page}: {link}"


def test_every_page_is_in_the_readme_or_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    listed = index.read_text().split()
    for page in (ROOT / "docs").glob("*.md"):
        assert page == index or page.stem in listed, page


def test_every_column_of_a_scoring_is_explained() -> None:
    text = (ROOT / "docs" / "files.md").read_text()
    for column in (*SCORE_COLUMNS, *PAIR_COLUMNS, *RANKING_COLUMNS):
        assert f"`{column}`" in text, column


def test_messages_in_troubleshooting_are_said() -> None:
    said = {
        node.value
        for room in ("engine", "training", "cli")
        for path in (ROOT / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    for message in re.findall(r"^### `(.*)`$", text, re.MULTILINE):
        for part in re.split("…|`, `", message):
            assert any(part.strip() in one for one in said), message
