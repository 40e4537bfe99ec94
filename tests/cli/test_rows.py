"""Single instances chosen by what is measured of each, from scores to a pool of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

RECORDS = [
    {"instruction": f"Name {thing}", "input": "", "output": f"answer {index}"}
    for index, thing in enumerate(("a colour", "a river", "a town", "a fruit", "a metal"))
]
LOSSES = {0: (2.0, 4.0), 1: (3.0, 4.0), 2: (5.0, 4.0), 3: (1.0, 4.0), 4: (3.9, 4.0)}
"""Of a token behind the prompt and behind nothing: ratios 0.5, 0.75, 1.25, 0.25, 0.975."""


@pytest.fixture
def alpaca(tmp_path: Path) -> Path:
    path = tmp_path / "alpaca.json"
    path.write_text(json.dumps(RECORDS))
    return path


def answers(ids: list[tuple[str, str]]) -> pl.DataFrame:
    rows = [
        {
            "task_id": task_id,
            "instance_id": instance_id,
            "perturbation": 0,
            "given": given,
            "start": "turn",
            "n_tokens": 2,
            "logprob": -2 * loss,
            "weights_version": "base",
        }
        for index, (task_id, instance_id) in enumerate(ids)
        for given, loss in zip(("prompt", "input", "nothing"), (*LOSSES[index], 4.0), strict=True)
    ]
    return pl.DataFrame(rows)


def test_rows_of_a_pool_are_chosen_and_written(jostle: Any, alpaca: Path, tmp_path: Path) -> None:
    code, shown = jostle("pool", "convert", alpaca, tmp_path / "all.jsonl")
    assert code == 0, shown
    tasks = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    table = answers([(task["id"], task["instances"][0]["id"]) for task in tasks])
    table.write_parquet(tmp_path / "scores.answers.parquet")

    chosen = tmp_path / "rows.txt"
    by = ("--strategy", "instruction_following_difficulty")
    code, shown = jostle(
        "select", tmp_path / "scores.answers.parquet", "--rows", *by, "-n", 2, "-o", chosen
    )
    assert code == 0, shown
    assert "2 of 5 instances" in shown
    names = [f"{task['id']}/{task['instances'][0]['id']}" for task in tasks]
    assert chosen.read_text().splitlines() == [names[4], names[1]]  # the third misleads

    code, shown = jostle("pool", "convert", alpaca, tmp_path / "some.jsonl", "--selected", chosen)
    assert code == 0, shown
    kept = [json.loads(line) for line in (tmp_path / "some.jsonl").read_text().splitlines()]
    assert [task["id"] for task in kept] == [tasks[1]["id"], tasks[4]["id"]]

    by_gain = ("--strategy", "column", "--set", "column=prompt_information")
    code, shown = jostle(
        "select", tmp_path / "scores.answers.parquet", "--rows", *by_gain, "-n", 1, "-o", chosen,
        "--overwrite",
    )  # fmt: skip
    assert (code, chosen.read_text().split()) == (0, [names[3]])


def test_one_instance_of_a_task_with_several(jostle: Any, tmp_path: Path) -> None:
    grouped = tmp_path / "grouped.jsonl"
    rows = [
        {"kind": "same", "instruction": "Name it", "input": word, "output": "x"} for word in "abc"
    ]
    grouped.write_text("".join(json.dumps(row) + "\n" for row in rows))
    by_kind = ("--column", "task=kind")
    jostle("pool", "convert", grouped, tmp_path / "all.jsonl", *by_kind)
    (task,) = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    wanted = tmp_path / "rows.txt"
    wanted.write_text(f"{task['id']}/{task['instances'][1]['id']}\n")
    jostle("pool", "convert", grouped, tmp_path / "one.jsonl", *by_kind, "--selected", wanted)
    (one,) = [json.loads(line) for line in (tmp_path / "one.jsonl").read_text().splitlines()]
    assert [instance["input"] for instance in one["instances"]] == ["b"]

    wanted.write_text("nowhere/1\n")
    code, shown = jostle(
        "pool", "convert", grouped, tmp_path / "none.jsonl", *by_kind, "--selected", wanted
    )
    assert code == 2
    assert "record nowhere/1: 1 selected, such as this, are not in the pool" in shown
    assert not (tmp_path / "none.jsonl").exists()


def test_scores_are_no_rows(jostle: Any, tmp_path: Path) -> None:
    scores = tmp_path / "scores.parquet"
    pl.DataFrame({"task_id": ["a"], "prompt_uncertainty": [0.5]}).write_parquet(scores)
    code, shown = jostle("select", scores, "--rows", "-n", 1, "-o", tmp_path / "rows.txt")
    assert code == 2
    assert "holds no rows of instances" in shown
