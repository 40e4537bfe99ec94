"""Pools in the form of Self-Instruct."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InputError
from engine.pools import load_pool
from engine.pools.writing import write_pool

INSTANCES = [{"input": "", "output": "Yes"}, {"input": "b", "output": "No"}]


def write(path: Path, *said: Any) -> Path:
    rows = [
        {"id": f"seed_{n}", "instruction": f"Do {n}.", "instances": INSTANCES, **one}
        for n, one in enumerate(said)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_what_it_says_of_classifications_is_kept(tmp_path: Path, ending: str) -> None:
    said = [{"is_classification": value} for value in (True, False, None)]
    pool = load_pool(str(write(tmp_path / "seed.jsonl", *said, {})))
    assert [task.classification for task in pool] == [True, False, None, None]
    assert [task.is_classification for task in pool] == [True, False, False, False]
    again = tmp_path / f"pool.{ending}"
    write_pool(pool, again)
    assert load_pool(str(again)).digest() == pool.digest()


def test_anything_else_is_a_fault(tmp_path: Path) -> None:
    path = write(tmp_path / "seed.jsonl", {}, {"is_classification": "yes"})
    with pytest.raises(InputError, match=r"line 2.*expected true or false, found a text") as caught:
        load_pool(str(path))
    assert caught.value.field == "is_classification"
