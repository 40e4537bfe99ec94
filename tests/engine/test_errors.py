"""An InputError says where the fault is, in one line."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from engine.errors import InputError


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({}, "is missing"),
        ({"file": "pool.json"}, "pool.json: is missing"),
        ({"record": "t1"}, "record t1: is missing"),
        ({"field": "input"}, "field 'input': is missing"),
        (
            {"file": Path("a/pool.json"), "record": 3, "field": "input"},
            "a/pool.json, record 3, field 'input': is missing",
        ),
    ],
)
def test_message_names_what_is_known(where: dict[str, object], message: str) -> None:
    assert str(InputError("is missing", **where)) == message  # type: ignore[arg-type]


def test_survives_a_process_boundary() -> None:
    error = InputError("is missing", file="pool.json", record="t1", field="input")
    again = pickle.loads(pickle.dumps(error))
    assert (again.file, again.record, again.field) == ("pool.json", "t1", "input")
    assert again.problem == "is missing"
