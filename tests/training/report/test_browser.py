"""The report as a person uses it, in headless Chromium: mouse, keyboard, dark, print, phone."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.training.report.browser import CHROMIUM, Browser
from tests.training.report.made_run import NASTY, make_records, make_tasks
from training.report.run_report import write_run_report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium (on Debian: apt install chromium)"),
]

AXE = Path(__file__).parents[3] / ".venv/axe-core/node_modules/axe-core/axe.min.js"

FOCUSED = "(document.activeElement.id || document.activeElement.textContent)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as running:
        yield running


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    tasks = tuple(
        task.model_copy(update={"category": str(task.category).replace("d-1", "d  1\n")})
        for task in make_tasks(60, NASTY)
    )
    return write_run_report(make_records(tmp_path_factory.mktemp("run"), tasks), tasks).as_uri()


@pytest.fixture
def page(browser: Browser, report: str) -> Iterator[Browser]:
    """The report, newly opened in a wide window; whatever goes wrong on it fails the test."""
    browser.problems.clear()
    browser.send("Page.navigate", url="about:blank")
    browser.media()
    browser.size(1280, 1000)
    browser.open(report)
    yield browser
    browser.run("1")  # what the browser has to tell comes before the answer
    assert browser.problems == []


def shown(page: Browser, script: str) -> Any:
    return page.run(f"document.querySelector({script!r}).textContent")


def place(page: Browser, mark: int) -> tuple[float, float]:
    """The middle of a mark of the map, in the window."""
    found = page.run(
        "(() => { const box = document.querySelectorAll('#map .mark-symbol.role-mark')[0]"
        f".children[{mark}].getBoundingClientRect();"
        " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
    )
    return found[0], found[1]


def test_pointing_shows_a_task_and_a_click_keeps_it(page: Browser) -> None:
    assert "Point at a task" in shown(page, "#card")
    page.mouse(*place(page, 7))
    page.until("!document.querySelector('#card').textContent.includes('Point at a task')")
    name = shown(page, "#card h3")
    assert "standard error" in shown(page, "#card")
    assert shown(page, "#details") == ""
    page.mouse(*place(page, 7), click=True)
    page.until("document.querySelector('#details ins, #details del')")
    page.mouse(2, 2)
    page.run("new Promise(done => setTimeout(done, 50))")
    assert shown(page, "#card h3") == shown(page, "#details h3") == name
    assert "answer <b>1</b>" in shown(page, "#details")
    assert page.run("document.querySelectorAll('#strip .mark-symbol').length") > 0
    page.press("Escape")  # the map has the focus, as it was clicked
    page.until("document.querySelector('#details').textContent === ''")


def test_filters_the_slider_and_sorting_do_what_they_say(page: Browser) -> None:
    assert shown(page, "#count").startswith("56 of 56 tasks, 4 selected in round 1")
    page.run("document.querySelector('#find').focus()")
    page.write("script>")
    page.until("document.querySelector('#count').textContent.startsWith('1 of 56')")
    assert shown(page, "#rows").startswith("task-0") or "task-0" in shown(page, "#rows")
    page.run(
        "(() => { const find = document.querySelector('#find'); find.value = '';"
        " find.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )
    page.run(
        "(() => { const only = document.querySelector('#category'); only.selectedIndex ="
        " [...only.options].findIndex(option => option.text === 'kind 1');"
        " only.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )
    cells = "[...document.querySelectorAll('#rows tr')].map(row => row.cells[{}].innerText)"
    kinds = page.run(cells.format(2))
    assert set(kinds) == {"kind 1"}, "as it is shown; it has a line break and more blanks"
    page.run("document.querySelector('#round').focus()")
    page.press("ArrowLeft")
    page.until("document.querySelector('#round-name').textContent === 'round 0'")
    assert " of 60 tasks" in shown(page, "#count")
    assert "In round 0, a repeat would pick" in shown(page, "#ranks-words")
    p = cells.format(5) + ".map(Number)"
    page.run("document.querySelector('th[data-name=prediction_probability] button').click()")
    assert page.run(p) == sorted(page.run(p), reverse=True)
    page.run("document.querySelector('th[data-name=prediction_probability] button').click()")
    assert page.run(p) == sorted(page.run(p))
    sort = "document.querySelector('th[data-name=prediction_probability]').ariaSort"
    assert page.run(sort) == "ascending"
    page.send("Page.reload")  # its address keeps where it was
    page.until("document.documentElement?.dataset.ready === 'yes'")
    assert shown(page, "#round-name") == "round 0"
    assert page.run(sort) == "ascending"
    assert set(page.run(cells.format(2))) == {"kind 1"}
    # An address of an earlier report does not know the boxes that came later.
    page.run("history.replaceState(null, '', '#' + encodeURIComponent('{\"round\": \"0\"}'))")
    page.send("Page.reload")
    page.until("document.querySelector('#count')?.textContent.startsWith('60 of 60')")


def test_the_keyboard_reaches_everything(page: Browser) -> None:
    reached = []
    for _ in range(40):
        page.press("Tab")
        reached.append(page.run(FOCUSED))
    for name in ("round", "find", "category", "map", "csv", "next"):
        assert name in reached
    assert "standard error" in reached, "a heading that sorts"
    assert any(each.endswith("task-4") for each in reached), "a task of the table"
    page.run("document.querySelector('#map').focus()")
    page.press("ArrowUp")
    page.until("document.querySelector('#details').textContent !== ''")
    uncertain = shown(page, "#card h3")
    page.press("ArrowLeft")
    page.until(f"document.querySelector('#card h3').textContent !== {uncertain!r}")


def test_texts_of_tasks_are_texts(page: Browser) -> None:
    assert page.run("document.title") != "taken"
    for number, text in enumerate(NASTY):
        page.run(
            "[...document.querySelectorAll('#rows button')]"
            f".find(button => /(^|\\s)task-{number}$/.test(button.textContent))?.click()"
        )
        if shown(page, "#card h3") == f"task-{number}":
            # JSON keeps what a quoted string of Python does not.
            assert page.run("document.querySelector('#card .definition').textContent") == text
    assert page.run("document.querySelectorAll('main img, main script, #details b b').length") == 0


def test_dark_and_print_and_phone(page: Browser, tmp_path: Path) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    axis = "document.querySelector('#map .role-axis-title text').getAttribute('fill')"
    assert (page.run(ground), page.run(axis)) == ("rgb(255, 255, 255)", "#1d1f23")
    folder = Path(os.environ.get("JOSTLE_PICTURES", tmp_path))
    page.picture(folder / "report-light.png")
    page.media(dark=True)
    page.until(f"{axis} === '#eceef1'")
    assert page.run(ground) == "rgb(22, 24, 28)"
    page.picture(folder / "report-dark.png")
    page.pdf(folder / "report.pdf")
    page.media()
    page.size(390, 844, phone=True)
    page.until("document.querySelector('#map svg').getBoundingClientRect().width < 380")
    assert page.run("document.documentElement.scrollWidth") <= 390
    page.picture(folder / "report-phone.png")


@pytest.mark.skipif(not AXE.is_file(), reason="no axe-core, see .ci/run")
@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing_serious(page: Browser, dark: bool) -> None:
    page.run("document.querySelector('#rows button').click()")
    page.until("document.querySelector('#details').textContent !== ''")
    if dark:
        page.media(dark=True)
        page.until("document.querySelector('#map .role-axis-title text[fill=\"#eceef1\"]')")
    page.run(AXE.read_text(encoding="utf-8") + "; 1")
    found = page.run("axe.run().then(result => JSON.stringify(result.violations))")
    serious = [each for each in json.loads(found) if each["impact"] in ("serious", "critical")]
    told = [(each["id"], [node["html"][:200] for node in each["nodes"][:3]]) for each in serious]
    assert told == []


@pytest.mark.long
def test_ten_thousand_tasks(browser: Browser, tmp_path: Path) -> None:
    tasks = make_tasks(10_000)
    folder = make_records(tmp_path / "run", tasks, n_rounds=1, n_selected=100)
    started = time.process_time()
    path = write_run_report(folder, tasks)
    assert time.process_time() - started < 10
    browser.size(1280, 1000)
    browser.problems.clear()
    seconds = browser.open(path.as_uri())
    print(f"{path.stat().st_size / 1e6:.1f} MB, interactive after {seconds:.1f} s")
    assert browser.run("document.querySelector('#map canvas') !== null")
    browser.run("document.querySelector('#map').focus()")
    browser.press("ArrowUp")
    browser.until("document.querySelector('#details').textContent !== ''")
    assert browser.problems == []
