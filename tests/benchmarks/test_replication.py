"""The shoot-out on a tiny model: rounds add up, go on, and are paired."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from benchmarks import replication
from benchmarks.common.lines import append_line, read_lines
from benchmarks.evidence import evidence_pools, replication_tables, shoot_out
from benchmarks.evidence.laboratory import Laboratory
from engine.tasks import Pool
from tests.training.fakes import make_pool, make_task
from tests.training.tiny import make_tiny_model, make_tokenizer
from training.config.run_config import RunConfig

CONFIG = RunConfig.model_validate(
    {
        "model": {"max_model_len": 256},
        "score": {"n_instances": 2, "n_perturbations": 2, "max_output_tokens": 3},
        "train": {"learning_rate": 1e-3, "instances_per_task": 2},
        "evaluate": {"instances_per_task": 2, "max_new_tokens": 3},
    }
)


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Pool:
    monkeypatch.setattr(shoot_out, "N_PER_ROUND", 2)
    for module in (shoot_out, replication, replication_tables):
        monkeypatch.setattr(module, "N_ROUNDS", 2)
    monkeypatch.setattr(replication_tables, "LAST", 1)
    # In order: the vocabulary comes in another one each time.
    words = sorted(word for word in make_tokenizer().get_vocab() if word.isalpha())
    definitions = [" ".join(words[at : at + 4]) for at in range(8)]
    return Pool([make_task(f"t-{at}", each) for at, each in enumerate(definitions)], "made up")


def new_game(pool: Pool, journal: Path) -> shoot_out.ShootOut:
    tokenizer = make_tokenizer()
    model = make_tiny_model(tied=True, tokenizer=tokenizer, initializer_range=0.3).eval()
    held_out = make_pool(2, "held", "other")
    laboratory = Laboratory(model, tokenizer, CONFIG, held_out)
    return shoot_out.ShootOut(laboratory, pool, held_out, journal)


def without_time(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: each[name] for name in each if name != "seconds"} for each in records]


@pytest.mark.slow
def test_all_contestants_go_through_their_rounds(pool: Pool, tmp_path: Path) -> None:
    names = list(shoot_out.CONTESTANTS)
    game = new_game(pool, tmp_path / "rounds.jsonl")
    for place in list(game.rounds(names, 1)):
        game.run(*place)
    assert not list(game.rounds(names, 1))
    records = read_lines(tmp_path / "rounds.jsonl")
    assert len(records) == 2 + 2 * len(names)
    assert game.done["everything", 0, 0]["tasks"] == [task.id for task in pool]
    for name in names:
        first, second = (game.done[name, 0, index] for index in range(2))
        assert 1 <= len(first["tasks"]) <= 2  # of a map category there may be no more
        assert len(first["tasks"]) < len(set(second["tasks"])) == len(second["tasks"]) <= 4
        assert second["tasks"][: len(first["tasks"])] == first["tasks"]
        assert second["training_tokens"] > first["training_tokens"] > 0
    cost = {name: game.done[name, 0, 0]["scoring_tokens"] for name in names}
    assert cost["random"] == cost["like_held_out"] == 0
    assert 0 < cost["low_perplexity"] < cost["prompt_uncertainty"] == cost["flip_rate"]
    one, other = (game.done[name, 0, 0]["tasks"] for name in ("high_perplexity", "low_perplexity"))
    assert not set(one) & set(other)
    asked = game.done["prompt_uncertainty", 0, 1]["scores"]
    assert len(asked["task_id"]) == len(pool) - 2
    assert all(0 < value < 1 for value in asked["prompt_uncertainty"])
    console = Console(file=io.StringIO(), record=True, width=140)
    replication_tables.show(records, console, "t-0")
    text = console.export_text()
    assert all(name in text for name in names)
    everything = next(line.split() for line in text.splitlines() if "everything" in line)
    assert everything[1:4] == ["8", "1", "8"], "tasks, those of the family, different ones"


@pytest.mark.slow
def test_an_interrupted_shoot_out_ends_with_the_same_records(pool: Pool, tmp_path: Path) -> None:
    names = ["random", "prompt_uncertainty"]
    whole = new_game(pool, tmp_path / "whole.jsonl")
    for place in list(whole.rounds(names, 2)):
        whole.run(*place)
    for n_rounds in (4, 2, 100):
        game = new_game(pool, tmp_path / "cut.jsonl")
        parts = [list(game.rounds(names, 2, (part, 2))) for part in (1, 2)]
        assert sorted(parts[0] + parts[1]) == sorted(game.rounds(names, 2))
        for place in list(game.rounds(names, 2))[:n_rounds]:
            game.run(*place)
    whole_records, cut = (
        without_time(read_lines(tmp_path / f"{name}.jsonl")) for name in ("whole", "cut")
    )
    assert json.dumps(cut) == json.dumps(whole_records)


def planted(seed: int, name: str, index: int, gain: float, tasks: list[str]) -> dict[str, Any]:
    """A round whose score is a seed's own, and for one strategy more."""
    rng = np.random.default_rng([seed, index, len(name)])
    score = 30 + index + rng.normal(0, 1) + gain * (name == "flip_rate") + rng.normal(0, 1, 16)
    return {
        "key": "k",
        "contestant": name,
        "seed": seed,
        "round": index,
        "tasks": rng.permutation(tasks)[: 4 * (index + 1)].tolist(),
        "scoring_tokens": 0 if name == "random" else 1_000,
        "training_tokens": 100 * (index + 1),
        "rouge_l": score.tolist(),
        "exact_match": score.tolist(),
        "gold_logprob": (score / -10).tolist(),
        "device": "none",
        "seconds": 1.0,
        "scores": {
            "task_id": tasks,
            "prompt_uncertainty": rng.random(len(tasks)).tolist(),
            "prediction_probability": rng.random(len(tasks)).tolist(),
        },
    }


@pytest.mark.parametrize("gain", [0.0, 12.0])
def test_a_planted_strategy_is_found_and_others_are_not(gain: float) -> None:
    names = list(shoot_out.CONTESTANTS)
    tasks = [f"t-{at}" for at in range(56)]
    records = [
        planted(seed, name, index, gain, tasks)
        for seed in range(5)
        for name in names
        for index in range(3)
    ]
    curves = replication_tables.Curves(records, "rouge_l")
    found = curves.less_random(["flip_rate"], [2])
    assert found is not None
    assert found.low < gain < found.high
    assert (found.low > 0) == (gain > 0)
    planned = curves.less_random(replication_tables.HIGH_U, range(3))
    assert planned is not None
    assert planned.low < 0 < planned.high, "nothing was planted there"
    assert curves.everything_less(replication_tables.HIGH_U) is None, "nobody trained on all"
    whole = [planted(seed, "everything", 0, 0.0, tasks) for seed in range(5)]
    for record in whole:
        record["rouge_l"] = [score + gain for score in record["rouge_l"]]
    more = replication_tables.Curves([*records, *whole], "rouge_l").everything_less(
        replication_tables.HIGH_U
    )
    assert more is not None
    assert (more.low > 0) == (gain > 0)
    # Who scores trains in every round, who does not only in the last.
    assert curves.tokens("flip_rate", 2) == 3_000 + 3 * (100 + 200 + 300)
    assert curves.tokens("random", 2) == 3 * 300


def test_rounds_are_stored_shown_and_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside the runs of the datamodel on the same pool."""
    stored = tmp_path / "stored.parquet"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(replication, "rounds_file", lambda name: stored)
    with pytest.raises(SystemExit, match="no round has ended yet"):
        replication.write("bundled")
    with pytest.raises(SystemExit, match="write comes first"):
        replication.analyse("bundled", tmp_path)
    tasks = pl.read_parquet(evidence_pools.predictors_file("bundled"))["task_id"].to_list()
    records = [
        planted(seed, name, index, 0.0, tasks)
        for seed in range(2)
        for name in ("flip_rate", "random")
        for index in range(3)
    ]
    for record in records[:8]:
        append_line(replication.journal("bundled"), record)
    replication.write("bundled")
    for record in records[6:]:
        append_line(replication.journal("bundled"), record)
    base = {"contestant": "base", "seed": 0, "round": 0, "tasks": [], "scores": None}
    append_line(replication.journal("bundled"), records[0] | base)
    replication.write("bundled")
    assert pl.read_parquet(stored)["contestant"].to_list() == [
        "base",
        *["random"] * 6,
        *["flip_rate"] * 6,
    ]
    replication.analyse("bundled", tmp_path)
    text = (tmp_path / "replication_bundled.txt").read_text()
    assert text in capsys.readouterr().out.replace("\r", "")
    assert "over 150 runs of the datamodel and 4 last rounds, 124 subsets" in text
    for name in ("replication_bundled.png", "replication_bundled_map.png"):
        assert (tmp_path / name).stat().st_size > 10_000


def test_a_dry_run_says_what_it_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["replication", "run", "--dry-run", "--seeds=3"]
    monkeypatch.setattr(sys, "argv", command)
    replication.main()
    out = capsys.readouterr().out
    assert "11 strategies, 3 seeds, 3 rounds: 102 trainings on 4, 8, 12 tasks or all" in out
    assert "57 scorings of up to 56 tasks" in out
    monkeypatch.setattr(sys, "argv", [*command, "--contestants=luck"])
    with pytest.raises(SystemExit):
        replication.main()
    assert "no contestant is called luck" in capsys.readouterr().err
