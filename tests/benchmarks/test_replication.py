"""The shoot-out on a tiny model: rounds add up, go on, and are paired."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks import replication
from benchmarks.common.lines import read_lines
from benchmarks.evidence import shoot_out
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
    for module in (shoot_out, replication):
        monkeypatch.setattr(module, "N_ROUNDS", 2)
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
    assert len(records) == 1 + 2 * len(names)
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
    console = Console(file=io.StringIO(), record=True, width=140)
    replication.show(records, console)
    text = console.export_text()
    assert all(name in text for name in names)


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


def test_a_dry_run_says_what_it_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["replication", "run", "--dry-run", "--seeds=3"]
    monkeypatch.setattr(sys, "argv", command)
    replication.main()
    out = capsys.readouterr().out
    assert "12 strategies, 3 seeds, 3 rounds: 108 trainings on 4, 8, 12 tasks" in out
    assert "63 scorings of up to 56 tasks" in out
    monkeypatch.setattr(sys, "argv", [*command, "--contestants=luck"])
    with pytest.raises(SystemExit):
        replication.main()
    assert "no contestant is called luck" in capsys.readouterr().err
