from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import polars as pl
import pytest

from engine.errors import InputError
from tests.engine.offered import offer
from training.selection import (
    STRATEGIES,
    Choice,
    Draw,
    Strategy,
    parse_strategy,
    select,
    select_tasks,
)
from training.selection.selection_record import read_task_ids
from training.selection.strategy_testing import check_strategy, draw_scores

SCORES = draw_scores(10)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (
            "uncertain",
            r"unknown strategy 'uncertain'; valid here: prompt_uncertainty, flip_rate, output_dis",
        ),
        ({"direction": "low"}, r"give the strategy's name; valid: prompt_uncertainty, flip"),
        (
            {"name": "prompt_uncertainty", "end": "low"},
            r"field 'end': unknown setting of prompt_uncertainty; valid: direction$",
        ),
        ({"name": "prompt_uncertainty", "direction": "up"}, r"direction.*'high' or 'low'"),
        ("column", r"field 'column': Field required"),
        (
            {"name": "mix", "parts": [{"share": 1, "strategy": "uncertain"}]},
            r"parts.0.strategy.*unknown strategy 'uncertain'; valid here: ",
        ),
        (
            {"name": "mix", "parts": [{"share": 0.5, "strategy": "random"}]},
            r"the shares sum to 0.5, not to 1",
        ),
        (
            {"name": "stratified", "column": "category", "shares": {"a": 0.4, "b": 0.5}},
            r"the shares sum to 0.9, not to 1",
        ),
    ],
)
def test_wrong_settings_list_the_valid_ones(values: Any, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        parse_strategy(values)


@pytest.mark.parametrize(
    ("scores", "arguments", "complaint"),
    [
        (SCORES.clear(), {}, "no task is left"),
        (SCORES, {"excluded": SCORES["task_id"].to_list()}, "no task is left"),
        (SCORES, {"forced": ["task-99"]}, "record task-99: is forced and not scored"),
        (SCORES, {"forced": ["task-1"], "excluded": ["task-1"]}, "is forced and excluded"),
        (SCORES, {"forced": ["task-1", "task-1"]}, "named twice"),
        (SCORES, {"forced": ["task-1", "task-2", "task-3", "task-4"]}, "4 tasks are forced, 3"),
        (pl.concat([SCORES, SCORES[:1]]), {}, "record task-0, field 'task_id': is there twice"),
        (SCORES.drop("weights_version"), {}, "the column is missing"),
        (SCORES.with_columns(weights_version=pl.col("task_id")), {}, "rows of several weights"),
        (SCORES.drop("prompt_uncertainty"), {}, r"the column is missing; there are task_id, "),
        (
            SCORES.with_columns(prompt_uncertainty=pl.lit(float("nan"))),
            {},
            r"record task-0, field 'prompt_uncertainty': the score is not a number",
        ),
        (SCORES.with_columns(prompt_uncertainty=pl.lit("x")), {}, "holds String, not numbers"),
    ],
)
def test_what_cannot_be_selected_from_is_said(
    scores: pl.DataFrame, arguments: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        select(scores, parse_strategy("prompt_uncertainty"), 3, **arguments)


def test_excluded_tasks_that_are_not_scored_are_noted() -> None:
    chosen = select(SCORES, parse_strategy("random"), 3, excluded=["task-1", "gone", "away"])
    assert chosen.excluded == ("task-1",)
    assert chosen.notes == ("2 excluded tasks are not scored, such as away",)


class Alphabet(Strategy):
    """By name."""

    summary: ClassVar[str] = "by name"
    name: Literal["alphabet"] = "alphabet"
    fault: str = ""

    def choose(self, draw: Draw) -> list[Choice]:
        ids = draw.candidates["task_id"].to_list()[: draw.n]
        if self.fault == "twice":
            ids = [ids[0], ids[0]]
        if self.fault == "foreign":
            ids = ["task-99"]
        if self.fault == "many":
            ids = draw.candidates["task_id"].to_list()
        value = float("nan") if self.fault == "number" else None
        return [Choice(task_id, value, "by name") for task_id in ids]


def test_a_package_may_bring_a_strategy(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, STRATEGIES, Alphabet)
    check_strategy(Alphabet())
    assert select_tasks(SCORES, "alphabet", 2, 0).task_ids == ("task-0", "task-1")
    mixed = parse_strategy({"name": "mix", "parts": [{"share": 1, "strategy": "alphabet"}]})
    assert select(SCORES, mixed, 1).tasks[0].reason == "alphabet: by name"


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("twice", "record alphabet: the strategy took a task twice"),
        ("foreign", "took 'task-99', which is no candidate"),
        ("many", "took 10 tasks in the place of 2"),
        ("number", "no finite number"),
    ],
)
def test_a_strategy_that_breaks_its_promises_is_stopped(fault: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        select(SCORES, Alphabet(fault=fault), 2)


def test_selected_tasks_are_read_from_a_record_or_a_list(tmp_path: Path) -> None:
    selection = select(SCORES, parse_strategy("random"), 3, 0)
    record, names = tmp_path / "selection.json", tmp_path / "selected.txt"
    record.write_text(selection.model_dump_json())
    names.write_text("\n".join([*selection.task_ids, "", selection.task_ids[0]]))
    assert read_task_ids(record) == read_task_ids(names) == selection.task_ids
    twice = selection.model_copy(update={"tasks": selection.tasks * 2})
    for path in (record, record.with_suffix(".JSON")):
        path.write_text(f"\ufeff{twice.model_dump_json()}", encoding="utf-8")
        assert read_task_ids(path) == selection.task_ids
    for encoding, told in (("utf-16", "it looks like UTF-16"), ("utf-16-le", "-f UTF-16LE -t")):
        for path in (record, names):
            path.write_text("{}\n", encoding=encoding)
            with pytest.raises(InputError, match=f"{path.name}.*{told}"):
                read_task_ids(path)
    names.write_text("one\nt\0wo\n")
    with pytest.raises(InputError, match="record line 2: is no text: holds a NUL"):
        read_task_ids(names)
