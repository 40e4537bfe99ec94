"""Records of whole tasks, in our own form and that of Self-Instruct: each fault with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.pools import open_pool
from engine.tasks import Task
from tests.engine.pools.test_formats import found, write

OWN: dict[str, Any] = {
    "id": "t",
    "definition": "Do it.",
    "positive_examples": [{"input": "a", "output": "b", "explanation": "c"}],
    "negative_examples": [{"input": "a", "output": "z"}],
    "instances": [{"id": "1", "input": "q", "outputs": ["r", "s"]}, {"id": "2", "input": ""}],
    "category": "kind",
    "labels": ["r", "s"],
    "classification": True,
}
SELF_INSTRUCT: dict[str, Any] = {
    "id": "t",
    "name": "whatever",
    "instruction": "Do it.",
    "instances": [{"input": "q", "output": "r"}, {"input": "", "output": ""}],
    "is_classification": True,
}


def test_our_own_form_holds_all_of_a_task(tmp_path: Path) -> None:
    path = write(tmp_path, "own.jsonl", [OWN])
    assert list(open_pool(path)) == [Task.model_validate(OWN)]
    assert found(path)[0] == []


def test_null_is_nothing_where_nothing_is_needed(tmp_path: Path) -> None:
    """As in a table, whose rows have all columns."""
    rows = [
        {"id": "s", "definition": "d", "instances": [{"id": "1", "input": "", "outputs": None}]},
        OWN | {"positive_examples": [{"input": "a", "output": "b", "explanation": None}]},
    ]
    rows[0] |= dict.fromkeys(OWN.keys() - rows[0].keys())
    faults, _, n_tasks = found(write(tmp_path, "own.jsonl", rows))
    assert (faults, n_tasks) == ([], 2)


def test_a_task_of_self_instruct(tmp_path: Path) -> None:
    (task,) = open_pool(write(tmp_path, "seed.jsonl", [SELF_INSTRUCT]))
    assert (task.id, task.definition, task.classification) == ("t", "Do it.", True)
    assert [(one.id, one.input, one.golds) for one in task.instances] == [
        ("t-0", "q", ("r",)),
        ("t-1", "", ()),
    ]


LINE = "record line 2"


def test_every_fault_of_a_list_is_told(tmp_path: Path) -> None:
    bad = OWN | {"labels": 3, "instances": [3, {"id": "1", "input": 3}, {"id": "2"}]}
    faults, _, _ = found(write(tmp_path, "own.jsonl", [OWN | {"id": "first"}, bad]))
    assert faults == [
        f"{LINE}, field 'labels': expected a list, found a number",
        f"{LINE}, instances[0]: expected an object, found a number",
        f"{LINE}, instances[1], field 'input': expected a text, found a number",
        f"{LINE}, instances[2], field 'input': missing",
    ]
    bad = OWN | {"labels": [3, "r", None], "instances": [{"id": "1", "outputs": [1, "r", 2]}]}
    faults, _, _ = found(write(tmp_path, "texts.jsonl", [OWN | {"id": "first"}, bad]))
    assert faults == [
        f"{LINE}, labels[0]: expected a text, found a number",
        f"{LINE}, labels[2]: expected a text, found null",
        f"{LINE}, instances[0], field 'input': missing",
        f"{LINE}, instances[0], field 'outputs.0': expected a text, found a number",
        f"{LINE}, instances[0], field 'outputs.2': expected a text, found a number",
    ]


@pytest.mark.parametrize(
    ("good", "change", "fault"),
    [
        (OWN, {"id": ""}, ", field 'id': empty"),
        (OWN, {"id": 3}, ", field 'id': expected a text, found a number"),
        (OWN, {"definition": None}, ", field 'definition': expected a text, found null"),
        (OWN, {"definition": " "}, ", field 'definition': empty"),
        (OWN, {"name": "x"}, ", field 'name': unknown field; valid here: id, definition, positive"),
        (OWN, {"instances": "x"}, ", field 'instances': expected a list, found a text"),
        (OWN, {"instances": []}, ", field 'instances': a task needs at least one instance"),
        (OWN, {"instances": [3]}, ", instances[0]: expected an object, found a number"),
        (OWN, {"instances": [{"id": "1"}]}, ", instances[0], field 'input': missing"),
        (
            OWN,
            {"instances": [{"id": "1", "input": "", "output": "x"}]},
            ", instances[0], field 'output': unknown field; valid here: id, input, outputs",
        ),
        (
            OWN,
            {"instances": [{"id": "1", "input": "", "outputs": [3]}]},
            ", instances[0], field 'outputs.0': expected a text, found a number",
        ),
        (
            OWN,
            {"instances": [{"id": "1", "input": "a"}, {"id": "1", "input": "b"}]},
            ", instances[1], field 'id': '1' is also the id of instances[0]",
        ),
        (OWN, {"labels": ["r", "s", " r"]}, ", field 'labels': holds a label twice"),
        (OWN, {"labels": ["r"]}, ", instances[0], field 'outputs': 's' is none of the task's lab"),
        (
            OWN,
            {"negative_examples": [{"input": "a", "output": " "}]},
            ", negative_examples[0], field 'output': empty",
        ),
        (OWN, {"positive_examples": [{"input": "a"}]}, ", positive_examples[0], field 'output': m"),
        (SELF_INSTRUCT, {"id": None}, ", field 'id': missing"),
        (SELF_INSTRUCT, {"instruction": ""}, ", field 'instruction': empty"),
        (SELF_INSTRUCT, {"instances": []}, ", field 'instances': a task needs at least one"),
        (SELF_INSTRUCT, {"instances": [3]}, ", instances[0]: expected an object, found a number"),
        (SELF_INSTRUCT, {"instances": [{"output": "x"}]}, ", instances[0], field 'input': missing"),
        (
            SELF_INSTRUCT,
            {"instances": [{"input": "", "output": 3}]},
            ", instances[0], field 'output': expected a text",
        ),
        (SELF_INSTRUCT, {"category": ["x"]}, ", field 'category': expected a text"),
    ],
)
def test_a_fault_of_a_task_is_told_with_its_place(
    good: dict[str, Any], change: dict[str, Any], fault: str, tmp_path: Path
) -> None:
    path = write(tmp_path, "pool.jsonl", [good | {"id": "first"}, good | change])
    faults, _, n_tasks = found(path)
    assert n_tasks == 1
    assert faults
    assert faults[0].startswith(LINE + fault), faults
