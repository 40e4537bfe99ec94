"""Questions under one title are a task; the format is known by its keys."""

import json
from pathlib import Path

import pytest

from engine.errors import InputError
from engine.pools import load_pool


def test_questions_of_one_title_are_a_task(tmp_path: Path) -> None:
    row = {"title": "Rivers", "context": "The Elbe rises there.", "question": "Which?"}
    answers = {"text": ["The Elbe"], "answer_start": [0]}
    file = tmp_path / "pool.jsonl"
    file.write_text("".join(json.dumps({"id": n, **row, "answers": answers}) + "\n" for n in "12"))
    (task,) = load_pool(file)
    assert task.id == "Rivers"
    assert [one.outputs for one in task.instances] == [("The Elbe",)] * 2
    with file.open("a") as lines:
        lines.write(json.dumps({"id": "3", **row, "answers": {}}) + "\n")
    with pytest.raises(InputError, match=r"line 3, field 'answers\.text': missing"):
        load_pool(file)
