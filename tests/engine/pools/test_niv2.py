"""Super-NaturalInstructions files: what they become, and one clear line for every fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InputError
from engine.pools.niv2 import load_niv2, load_niv2_task

REAL_TASKS = Path(__file__).parents[3].parent / "shared" / "data" / "niv2" / "tasks"

GOOD: dict[str, Any] = {
    "Contributors": ["somebody"],
    "Categories": ["Translation"],
    "Definition": ["Say it in French."],
    "Positive Examples": [{"input": "dog", "output": "chien", "explanation": "yes"}],
    "Negative Examples": [{"input": "cat", "output": "gato", "explanation": "Spanish"}],
    "Instances": [
        {"id": "task1-a", "input": "red", "output": ["rouge"]},
        {"id": "task1-b", "input": "blue", "output": ["bleu", "bleue"]},
    ],
}

MISSING = object()


def write(folder: Path, content: object, name: str = "task1.json") -> Path:
    file = folder / name
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def changed(field: str, value: object) -> dict[str, Any]:
    return {key: old for key, old in GOOD.items() if key != field} | (
        {} if value is MISSING else {field: value}
    )


def test_a_file_becomes_a_task(tmp_path: Path) -> None:
    task = load_niv2_task(write(tmp_path, GOOD))
    assert task.id == "task1"
    assert task.definition == "Say it in French."
    assert task.category == "Translation"
    assert [(e.input, e.output, e.explanation) for e in task.positive_examples] == [
        ("dog", "chien", "yes")
    ]
    assert [e.output for e in task.negative_examples] == ["gato"]
    assert [(i.id, i.input, i.outputs) for i in task.instances] == [
        ("task1-a", "red", ("rouge",)),
        ("task1-b", "blue", ("bleu", "bleue")),
    ]


@pytest.mark.parametrize(
    ("field", "value", "attribute", "expected"),
    [
        ("Definition", "Plain text.", "definition", "Plain text."),
        ("Definition", ["First.", "Second."], "definition", "First."),
        ("Positive Examples", MISSING, "positive_examples", ()),
        ("Negative Examples", [], "negative_examples", ()),
        ("Categories", MISSING, "category", None),
        ("Categories", [], "category", None),
        ("Categories", "Plain", "category", "Plain"),
        ("Labels", [], "labels", ()),
        ("Labels", ["rouge", "bleu", "bleue"], "labels", ("rouge", "bleu", "bleue")),
    ],
)
def test_variants_that_are_accepted(
    tmp_path: Path, field: str, value: object, attribute: str, expected: object
) -> None:
    task = load_niv2_task(write(tmp_path, changed(field, value)))
    assert getattr(task, attribute) == expected


def test_outputs_and_ids_may_be_left_out(tmp_path: Path) -> None:
    rows = [{"input": "red"}, {"input": "blue", "output": "bleu"}]
    task = load_niv2_task(write(tmp_path, changed("Instances", rows)))
    assert [(i.id, i.outputs) for i in task.instances] == [("task1-0", ()), ("task1-1", ("bleu",))]


def test_a_folder_is_read_in_the_order_of_file_names(tmp_path: Path) -> None:
    for name in ("c.json", "a.json", "b.json"):
        write(tmp_path, GOOD, name)
    (tmp_path / "README.md").write_text("not a task")
    pool = load_niv2(tmp_path)
    assert [task.id for task in pool] == ["a", "b", "c"]
    assert pool.source == str(tmp_path)


def complaint(file: Path) -> str:
    """The one line about a file, without the path in front, which is checked."""
    with pytest.raises(InputError) as caught:
        load_niv2_task(file)
    message = str(caught.value)
    assert message.startswith(str(file))
    assert "\n" not in message
    return message.removeprefix(str(file)).removeprefix(", ").removeprefix(": ")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'{"Definition": [', "not JSON: Expecting value at line 1, column 17"),
        (b"", "not JSON: Expecting value at line 1, column 1"),
        (b'{"Definition": ["caf\xe9"]}', "not UTF-8: byte 20 cannot be read"),
        (b"[1, 2]", "expected a JSON object, found a list"),
        (b'"text"', "expected a JSON object, found a text"),
        (b"7", "expected a JSON object, found a number"),
        (b"true", "expected a JSON object, found true or false"),
        (b"null", "expected a JSON object, found null"),
    ],
)
def test_files_that_hold_no_json_object(tmp_path: Path, raw: bytes, message: str) -> None:
    file = tmp_path / "task1.json"
    file.write_bytes(raw)
    assert complaint(file) == message


def test_a_folder_in_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "task1.json").mkdir()
    assert complaint(tmp_path / "task1.json") == "cannot be read: Is a directory"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("Definition", MISSING, "missing"),
        ("Definition", None, "missing"),
        ("Definition", [], "missing"),
        ("Definition", [None], "missing"),
        ("Definition", "", "empty"),
        ("Definition", [" \n"], "empty"),
        ("Definition", 5, "expected a text, found a number"),
        ("Definition", [["nested"]], "expected a text, found a list"),
        ("Definition", {"text": "x"}, "expected a text, found an object"),
        ("Definition", True, "expected a text, found true or false"),
        ("Definition", ["half a \ud83d pair"], "not Unicode: holds half a surrogate pair"),
        ("Instances", MISSING, "missing"),
        ("Instances", None, "missing"),
        ("Instances", {"a": 1}, "expected a list, found an object"),
        ("Positive Examples", None, "missing"),
        ("Positive Examples", "text", "expected a list, found a text"),
        ("Negative Examples", 3.5, "expected a list, found a number"),
        ("Categories", [3], "expected a text, found a number"),
        ("Labels", "rouge", "expected a list, found a text"),
        ("Labels", ["rouge", 1], "expected a text, found a number"),
    ],
)
def test_faults_of_a_task(tmp_path: Path, field: str, value: object, message: str) -> None:
    file = write(tmp_path, changed(field, value))
    assert complaint(file) == f"record task1, field '{field}': {message}"


def test_faults_that_no_task_may_have_go_by_the_names_of_the_format(tmp_path: Path) -> None:
    file = write(tmp_path, changed("Instances", []))
    assert complaint(file) == "field 'Instances': a task needs at least one instance"
    file = write(tmp_path, changed("Labels", ["rouge", "bleu", "bleue", "bleu"]))
    assert complaint(file) == "field 'Labels': holds a label twice"


@pytest.mark.parametrize(
    ("row", "where", "message"),
    [
        ("red", "", "expected an object, found a text"),
        (None, "", "expected an object, found null"),
        ({"output": ["x"]}, "input", "missing"),
        ({"input": None}, "input", "missing"),
        ({"input": ""}, "input", "empty"),
        ({"input": " \t"}, "input", "empty"),
        ({"input": 7}, "input", "expected a text, found a number"),
        ({"input": ["red"]}, "input", "expected a text, found a list"),
        ({"input": "\udc00"}, "input", "not Unicode: holds half a surrogate pair"),
        ({"input": "red", "output": 7}, "output", "expected a text or a list of texts, found a nu"),
        ({"input": "red", "output": None}, "output", "expected a text or a list of texts, found n"),
        ({"input": "red", "output": ["a", 7]}, "output", "expected a text, found a number"),
        ({"input": "red", "output": [["a"]]}, "output", "expected a text, found a list"),
        ({"input": "red", "id": 7.5}, "id", "expected a text, found a number"),
        ({"input": "red", "id": "a\nb"}, "id", "an id must not hold a line break or a control"),
        ({"input": "red", "id": " a"}, "id", "an id must not begin or end with a blank: ' a'"),
        ({"input": "red", "id": ""}, "id", "empty"),
        ({"input": "red", "outputs": ["x"]}, "outputs", "is not used, and there is no 'output'"),
    ],
)
def test_faults_of_an_instance(tmp_path: Path, row: object, where: str, message: str) -> None:
    file = write(tmp_path, changed("Instances", [GOOD["Instances"][0], row]))
    field = f", field '{where}'" if where else ""
    assert complaint(file).startswith(f"record Instances[1]{field}: {message}")


@pytest.mark.parametrize("kind", ["Positive Examples", "Negative Examples"])
@pytest.mark.parametrize(
    ("row", "where", "message"),
    [
        (7, "", "expected an object, found a number"),
        ({"output": "x"}, "input", "missing"),
        ({"input": "", "output": "x"}, "input", "empty"),
        ({"input": "x"}, "output", "missing"),
        ({"input": "x", "output": []}, "output", "expected a text, found a list"),
        ({"input": "x", "output": " "}, "output", "empty"),
        ({"input": "x", "output": "y", "explanation": 1}, "explanation", "expected a text, found"),
        ({"input": "x", "output": "y", "images": [1]}, "images", "is not used, and without it"),
    ],
)
def test_faults_of_an_example(
    tmp_path: Path, kind: str, row: object, where: str, message: str
) -> None:
    file = write(tmp_path, changed(kind, [GOOD[kind][0], row]))
    field = f", field '{where}'" if where else ""
    assert complaint(file).startswith(f"record {kind}[1]{field}: {message}")


def test_two_instances_with_one_id(tmp_path: Path) -> None:
    write(tmp_path, changed("Instances", [GOOD["Instances"][0]] * 2))
    with pytest.raises(InputError) as caught:
        load_niv2(tmp_path)
    message = str(caught.value)
    assert message.startswith(str(tmp_path))
    assert "task1" in message
    assert caught.value.record
    assert caught.value.field
    assert "\n" not in message


def test_a_folder_that_is_missing_empty_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("x")
    for folder, problem in (
        (tmp_path / "nowhere", "no such folder"),
        (file, "no such folder"),
        (tmp_path, "holds no .json files"),
    ):
        with pytest.raises(InputError) as caught:
            load_niv2(folder)
        assert str(caught.value) == f"{folder}: {problem}"


def test_one_bad_file_among_good_ones_is_named(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "a.json")
    bad = write(tmp_path, changed("Definition", MISSING), "b.json")
    with pytest.raises(InputError, match="record b, field 'Definition': missing") as caught:
        load_niv2(tmp_path)
    assert caught.value.file == str(bad)


@pytest.mark.skipif(not REAL_TASKS.is_dir(), reason="the real tasks are not on this machine")
def test_real_tasks_load() -> None:
    pool = load_niv2(REAL_TASKS)
    assert len(pool) == len(list(REAL_TASKS.glob("*.json")))
    for task in pool:
        assert task.definition.strip()
        assert task.category
        assert task.instances
        assert all(instance.outputs for instance in task.instances)


def test_gold_outputs_are_among_the_labels(tmp_path: Path) -> None:
    file = write(tmp_path, changed("Labels", ["rouge", "bleu"]))
    expected = "record Instances[1], field 'output': 'bleue' is none of the task's labels"
    assert complaint(file) == expected
