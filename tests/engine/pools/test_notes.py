"""What `jostle pool validate` notes of outputs and of texts of special tokens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.pools.notes import OutputNotes
from engine.pools.options import PoolOptions
from engine.pools.validate import validate_pool
from engine.tasks import Example, Instance, Task


def notes(*outputs: str, text: str = "sky", definition: str = "Say it") -> list[str]:
    found = OutputNotes()
    example = Example(input=text, output="x")
    for name in ("a", "b"):
        instance = Instance(id="i", input="", outputs=outputs)
        found.look(
            Task(
                id=name, definition=definition, positive_examples=(example,), instances=(instance,)
            )
        )
    return list(found.notes())


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        (("blue",), []),
        ((" blue\n",), []),
        ((), ["instances without a gold output: 2 (first: a/i)"]),
        (("", "blue", " \n"), ["blank gold outputs, which count as none: 4 (first: a/i)"]),
        (
            ("blue <|endoftext|>\n", "red</s>"),
            ["gold outputs that end in the text of an end token: 4"],
        ),
        (("<s>blue",), ["other texts with the text of a special token: 2 (first: a/i)"]),
    ],
)
def test_outputs(outputs: tuple[str, ...], expected: list[str]) -> None:
    found = notes(*outputs)
    assert len(found) == len(expected)
    assert all(note.startswith(start) for note, start in zip(found, expected, strict=True))


def test_blank_outputs_alone_are_no_gold_output() -> None:
    none, blank = notes("", "  ")
    assert none.startswith("instances without a gold output: 2")
    assert blank.startswith("blank gold outputs, which count as none: 4")


def test_other_texts() -> None:
    assert notes("blue", text="<|im_end|>")[0].startswith("other texts with")
    assert notes("blue", definition="Say </s>")[0].startswith("other texts with")
    assert notes("blue", text="a < b > c | d") == []


def test_validation_tells_them(tmp_path: Path) -> None:
    rows = [
        {"instruction": "Name a color.", "input": "sky", "output": ["", "blue"]},
        {"instruction": "Name a hue.", "input": "sun", "output": "yellow<|im_end|>"},
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = validate_pool(file, PoolOptions(), lambda fault: pytest.fail(str(fault)))
    assert [note.partition(" (")[0] for note in found.notes] == [
        "blank gold outputs, which count as none: 1",
        "gold outputs that end in the text of an end token: 1",
    ]
