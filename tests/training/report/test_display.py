"""Where no bar can be drawn, a line a minute says how far a step is."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from training.evaluation.evaluator import Evaluation, Score
from training.report.display import RichProgress, evaluation_table


@pytest.mark.parametrize("terminal", [False, True])
def test_a_line_a_minute_without_a_terminal(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("training.report.display.time.monotonic", lambda: now)
    told = io.StringIO()
    progress = RichProgress(Console(file=told, force_terminal=terminal, width=200))
    progress.open("score", 5_000, "tasks")
    for second in range(0, 185, 5):
        now = 1000.0 + second
        progress.advance(second * 10, detail=f"task [{second}]")
    lines = told.getvalue().splitlines()
    assert len(lines) == (0 if terminal else 3)
    if not terminal:
        assert lines[0].startswith("  score")
        assert "600 of 5,000 tasks, about " in lines[0]
        assert lines[0].endswith(" left  task [60]")
        assert "1,800 of 5,000 tasks" in lines[2]


def test_what_takes_minutes_each_or_ends_in_bursts_has_an_estimate() -> None:
    progress = RichProgress(Console(file=io.StringIO()))
    now = 0.0
    progress._bars.get_time = lambda: now
    progress.open("train", 90, "steps")
    for done in range(0, 11, 2):
        progress.advance(done)
        progress.advance(done + 1)
        now += 100
    (bar,) = progress._bars.tasks
    assert bar.time_remaining is not None
    assert 3_000 < bar.time_remaining < 5_000


def test_each_step_has_its_own_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("training.report.display.time.monotonic", lambda: now)
    told = io.StringIO()
    progress = RichProgress(Console(file=told, width=200))
    progress.open("one", None, "tasks")
    now = 50.0
    progress.open("two", None, "tasks")
    now = 70.0
    progress.advance(3)
    assert told.getvalue() == ""
    now = 110.0
    progress.advance(4)
    assert "4 tasks" in told.getvalue()


def test_a_long_summary_stays_below_itself_on_a_narrow_terminal() -> None:
    told = io.StringIO()
    progress = RichProgress(Console(file=told, force_terminal=True, width=80, no_color=True))
    summary = "message_topic, amount_of_money, catalogue_name and 9 more; a repeat would pick 5"
    progress.done("round 0: select", 0.2, summary)
    lines = told.getvalue().splitlines()
    assert len(lines) > 1
    assert all(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) <= 80 for line in lines)
    assert " ".join("".join(lines).split()).count("amount_of_money") == 1


def test_a_category_stands_beside_the_row_of_its_name() -> None:
    scores = [Score(rouge_l=float(n), exact_match=0.0, n_instances=n) for n in range(4)]
    evaluation = Evaluation(
        overall=scores[3],
        kinds={"generation": scores[2]},
        categories={"all": scores[1], "generation": scores[0]},
        tasks={},
    )
    names, *_, counts = evaluation_table("eval", evaluation).columns
    rows = [*zip(names.cells, counts.cells, strict=True)]
    assert rows == [("all", "3"), ("generation", "2"), ("all", "1"), ("generation", "0")]


@pytest.mark.parametrize("total", [None, 8])
def test_what_is_left_is_told_where_there_is_a_whole(total: int | None) -> None:
    told = io.StringIO()
    with RichProgress(Console(file=told, force_terminal=True, width=80)) as progress:
        progress.open("fine-tune", total, "steps")
    assert (" left" in told.getvalue()) is (total is not None)
