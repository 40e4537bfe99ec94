"""Links between pages lead somewhere; messages and variables are explained, and still there."""

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


BETWEEN_OUR_PROCESSES = {
    *("ADAPTER", "PARENT_PID", "PROGRESS", "SERVER", "SHARED_FOLDER"),
    *("TRAINER_OWNER", "TRAINER_PARENT"),
}
"""Environment variables that nobody sets by hand, without `JOSTLE_`."""


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


@pytest.fixture(scope="module")
def said() -> set[str]:
    """Every text in the rooms."""
    return {
        node.value
        for room in ("engine", "training", "cli")
        for path in (ROOT / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_every_variable_is_explained(said: set[str]) -> None:
    text = (ROOT / "docs" / "files.md").read_text().partition("## Environment variables")[2]
    ours = {found[1] for one in said if (found := re.fullmatch("JOSTLE_([A-Z_]+)", one))}
    assert ours - BETWEEN_OUR_PROCESSES == set(re.findall("JOSTLE_([A-Z_]+)", text))


def test_messages_in_troubleshooting_are_said(said: set[str]) -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    for message in re.findall(r"^### `(.*)`$", text, re.MULTILINE):
        for part in re.split("…|`, `", message):
            assert any(part.strip() in one for one in said), message
