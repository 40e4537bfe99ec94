"""What no perturbation changes is said to be unmeasurable from the scores to the map."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from engine.protocol.api import TaskScore
from engine.protocol.score_config import ScoreConfig
from engine.tasks import Task
from tests.cli.test_race import Client
from tests.engine.small_tokenizers import gpt2
from tests.training.report.page_data import page_data


class ScoringClient(Client):
    """Stands for the client of an engine that scores what it is asked."""

    def score(
        self, tasks: Iterable[Task], config: ScoreConfig, on_skip: object = None
    ) -> Iterator[TaskScore]:
        return super().score(tasks, config)


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.client.connect", ScoringClient)
    monkeypatch.setattr("engine.weights.models.resolve_model", lambda name: name)
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", lambda *_, **__: gpt2())
    monkeypatch.setattr(Client, "answers", 0)


DESIGN = ("--instances", 2, "--perturbations", 2)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Six tasks of many words, two of one word, one in Chinese."""
    instructions = [f"Say the color number {n} of it" for n in range(6)]
    instructions += ["Translate", "Antworte!", "请把下面的句子翻译成英文。"]
    path = tmp_path / "tasks.jsonl"
    rows = [
        {
            "id": f"task_{index}",
            "name": "",
            "instruction": text,
            "instances": [{"input": f"{n} things", "output": "yes"} for n in range(3)],
            "is_classification": False,
        }
        for index, text in enumerate(instructions)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.slow
def test_from_scores_to_map(jostle: Any, mixed: Path, tmp_path: Path) -> None:
    scores = tmp_path / "scores.parquet"
    code, shown = jostle("score", mixed, "-o", scores, "--url", "http://e", *DESIGN)
    assert code == 0, shown
    assert re.search(r"9 tasks, mean prompt uncertainty 0\.\d+; 2 cannot be measured: no", shown)
    table = pl.read_parquet(scores)
    missing = ["prompt_uncertainty", "standard_error", "ranking_estimate", "ranking_error"]
    missing += ["prompt_uncertainty_std", "prompt_uncertainty_max"]
    for row in table.iter_rows(named=True):
        measurable = row["task_id"] not in ("task_6", "task_7")
        assert all((row[name] is not None) == measurable for name in missing), row
        assert (row["map_category"] == "unmeasurable") == (not measurable)
        assert row["prediction_probability"] > 0
    assert table["prompt_uncertainty"][8] > 0, "Chinese is perturbed"
    pairs = pl.read_parquet(tmp_path / "scores.pairs.parquet")
    assert pairs.filter(pl.col("task_id") == "task_6")["perturbation"].to_list() == [0, 0]

    chosen = tmp_path / "chosen.txt"
    for strategy in ("prompt_uncertainty", "random", "perplexity", "diverse", "per_category"):
        asked = ("select", scores, "--strategy", strategy, "-n", 9, "-o", chosen, "--overwrite")
        code, shown = jostle(*asked)
        assert code == 0, shown
        assert "note: 2 tasks were left out, such as task_6: their prompt uncertainty" in shown
        assert "7 of 7 tasks" in shown
        assert not {"task_6", "task_7"} & set(chosen.read_text().split())

    for name in ("map.html", "map.png"):
        code, shown = jostle("map", scores, "-o", tmp_path / name, "--selected", chosen)
        assert code == 0, shown
        assert "2 unmeasurable: no perturbed prompt differs from the original" in shown
        assert "of 7 tasks change category" in shown
    data = page_data(tmp_path / "map.html")
    (shown_round,) = data["rounds"]
    place = data["tasks"]["id"].index("task_6")
    assert len(data["tasks"]["id"]) == 9
    assert shown_round["category"][place] == "unmeasurable"
    assert shown_round["values"]["prompt_uncertainty"][place] is None
    assert shown_round["values"]["map_stability"][place] is None
    assert "2 cannot be measured: no perturbed prompt" in data["about"]


def test_a_pool_of_which_nothing_can_be_measured(jostle: Any, mixed: Path, tmp_path: Path) -> None:
    lines = mixed.read_text().splitlines(keepends=True)
    mixed.write_text("".join(lines[6:8]))
    scores = tmp_path / "scores.parquet"
    code, shown = jostle("score", mixed, "-o", scores, "--url", "http://e", *DESIGN)
    assert code == 0, shown
    assert "2 tasks; 2 cannot be measured" in shown
    code, shown = jostle("select", scores, "-n", 1, "-o", tmp_path / "chosen.txt")
    assert code == 2
    assert "no task that could be measured is left" in shown
    code, shown = jostle("map", scores, "-o", tmp_path / "map.html")
    assert code == 2
    assert "no task could be measured" in shown


def test_a_race_names_what_it_cannot_measure(jostle: Any, mixed: Path, tmp_path: Path) -> None:
    out = tmp_path / "selected.txt"
    asked = ("race", mixed, "-o", out, "-n", 2, "--budget", 20_000, "--url", "http://e")
    code, shown = jostle(*asked)
    assert code == 0, shown
    assert "2 of 7 tasks after" in shown
    assert "selected.race.json: 2 cannot be measured: no perturbed prompt differs" in shown
    result = json.loads((tmp_path / "selected.race.json").read_text())
    assert result["unmeasurable"] == ["task_6", "task_7"]
    assert pl.read_parquet(tmp_path / "selected.race.parquet").height == 7
