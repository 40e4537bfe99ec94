"""`jostle race`: what it selected and why, and how it goes on after it broke off."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from engine.errors import EngineError
from engine.measures.compute import compute_measures
from engine.protocol.api import SkippedTask, TaskScore
from engine.protocol.completions import CompletionLogprobsResponse, TokenPair
from engine.protocol.score_config import ScoreConfig
from engine.protocol.served_model import tokenizer_identity
from engine.protocol.weights_state import WeightsState
from engine.tasks import Task
from tests.engine.design.test_live_race import Engine
from tests.engine.small_tokenizers import gpt2
from tests.engine.weights.served import SERVED, live
from training.tables.pool_scoring import ScoreFiles


class Client(Engine):
    """Stands for the client of an engine, which fails after some answers."""

    answers = 0
    fail_after: int | None = None
    faulty: frozenset[str] = frozenset()
    weights_version = "base"
    served = SERVED.model_copy(update={"tokenizer": tokenizer_identity(gpt2())})

    def __init__(self, _url: str = "", _api_key: str | None = None, **_options: Any) -> None:
        super().__init__()
        self.version = self.weights_version

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def weights(self) -> WeightsState:
        return live(self.version).model_copy(update={"served": self.served})

    def score(
        self,
        tasks: Iterable[Task],
        config: ScoreConfig,
        on_skip: Callable[[SkippedTask], None] | None = None,
    ) -> Iterator[TaskScore]:
        able = []
        for task in tasks:
            if task.id not in self.faulty:
                able.append(task)
            elif on_skip is not None:
                on_skip(SkippedTask(task_id=task.id, reason="not today"))
        for score in super().score(able, config):
            self._count()
            yield score

    def completion_logprobs(self, pairs: Sequence[TokenPair]) -> CompletionLogprobsResponse:
        self._count()
        return super().completion_logprobs(pairs)

    @classmethod
    def _count(cls) -> None:
        if cls.answers == cls.fail_after:
            raise EngineError("the engine went away")
        cls.answers += 1


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def tokenizer(_name: str, **_options: Any) -> Any:
        return gpt2()

    monkeypatch.setattr("cli.client.connect", Client)
    monkeypatch.setattr("engine.weights.models.resolve_model", lambda name: name)
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", tokenizer)
    monkeypatch.setattr(Client, "answers", 0)


@pytest.fixture
def command(tmp_path: Path) -> list[Any]:
    pool = tmp_path / "seed_tasks.jsonl"
    rows = [
        {
            "id": f"seed_task_{index}",
            "name": f"task {index}",
            "instruction": f"Say which of the {index} things is blue and which of them is not.",
            "instances": [{"input": f"{n} things", "output": "yes"} for n in range(6)],
            "is_classification": True,
        }
        for index in range(9)
    ]
    pool.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["race", pool, "-o", tmp_path / "top.txt", "--url", "http://nowhere", "-n", 3]
    return [*words, "--max-output-tokens", 8, "--budget", 30_000]


@pytest.mark.slow
def test_a_race_from_a_pool_to_task_ids(jostle: Any, command: list[Any], tmp_path: Path) -> None:
    code, shown = jostle(*command)
    assert code == 0, shown
    assert "3 of 9 tasks after" in shown
    assert "measure prompts" in shown
    assert "\N{CHECK MARK} race " in shown
    result = json.loads((tmp_path / "top.race.json").read_text())
    assert len(result["standings"]) == 9
    ids = (tmp_path / "top.txt").read_text().split()
    assert set(ids) == {each["task_id"] for each in result["standings"] if each["selected"]}
    scores = pl.read_parquet(tmp_path / "top.race.parquet")
    for each, row in zip(result["standings"], scores.iter_rows(named=True), strict=True):
        assert {name: row[name] for name in each} == each
    pairs = pl.read_parquet(tmp_path / "top.race.pairs.parquet")
    assert pairs["task_id"].rle().struct["len"].to_list() == scores["pairs"].to_list()
    measured = compute_measures(pairs, names=["prompt_uncertainty"])
    assert measured["prompt_uncertainty"].to_list() == pytest.approx(
        scores["prompt_uncertainty"].to_list()
    )
    code, shown = jostle(*command)
    assert code == 2
    assert "top.txt: is there already; --overwrite replaces it" in shown
    assert jostle(*command, "--overwrite")[0] == 0
    assert (tmp_path / "top.txt").read_text().split() == ids


def test_instances_that_cannot_be_scored_are_named_or_left_out(
    jostle: Any, command: list[Any], tmp_path: Path
) -> None:
    pool = Path(command[1])
    rows = [json.loads(line) for line in pool.read_text().splitlines()]
    rows[2]["instances"][4]["input"] = "things " * 3_000
    for instance in rows[5]["instances"]:
        instance["input"] = "things " * 3_000
    pool.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, shown = jostle(*command)
    assert code == 2
    assert "seed_tasks.jsonl" in shown
    assert "record seed_task_2/seed_task_2-4, field 'input'" in shown
    assert Client.answers == 0
    with pool.open("a") as stream:
        stream.write('{"id": "seed_task_9"\n')
    code, shown = jostle(*command, "--skip-faulty")
    assert code == 0, shown
    assert "3 of 8 tasks after" in shown
    assert "top.race.skipped.jsonl: 8 record(s) left out, and why" in shown
    lines = (tmp_path / "top.race.skipped.jsonl").read_text().splitlines()
    left_out = [
        f"line {len(rows) + 1}",
        "seed_task_2/seed_task_2-4",
        *(f"seed_task_5/seed_task_5-{n}" for n in range(6)),
    ]
    assert [json.loads(line)["record"] for line in lines] == left_out
    pairs = pl.read_parquet(tmp_path / "top.race.pairs.parquet")
    assert not pairs.filter(task_id="seed_task_2", instance_id="seed_task_2-4").height


def test_a_task_at_which_the_engine_fails_is_left_out_and_listed(
    jostle: Any, command: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Client, "faulty", frozenset({"seed_task_4"}))
    code, shown = jostle(*command, "--skip-faulty")
    assert code == 0, shown
    (line,) = (tmp_path / "top.race.skipped.jsonl").read_text().splitlines()
    assert (json.loads(line)["record"], json.loads(line)["reason"]) == ("seed_task_4", "not today")
    assert "1 record(s) left out" in shown
    result = json.loads((tmp_path / "top.race.json").read_text())
    assert "seed_task_4" not in {each["task_id"] for each in result["standings"]}


def test_a_pool_of_which_nothing_can_be_scored_is_refused(
    jostle: Any, command: list[Any], tmp_path: Path
) -> None:
    code, shown = jostle(*command, "--skip-faulty", "--max-output-tokens", 2_047)
    assert code == 2
    assert "no instance can be scored" in shown
    assert len((tmp_path / "top.race.skipped.jsonl").read_text().splitlines()) == 9 * 6
    assert Client.answers == 0


@pytest.mark.slow
def test_its_scores_make_a_map_and_a_selection(
    jostle: Any, command: list[Any], tmp_path: Path
) -> None:
    assert jostle(*command)[0] == 0
    scores, picture = tmp_path / "top.race.parquet", tmp_path / "map.png"
    assert jostle("map", scores, "-o", picture)[0] == 0
    assert picture.is_file()
    again = tmp_path / "again.txt"
    by_estimate = ["--strategy", "column", "--set", "column=ranking_estimate"]
    assert jostle("select", scores, "-n", 3, "-o", again, *by_estimate)[0] == 0
    assert set(again.read_text().split()) == set((tmp_path / "top.txt").read_text().split())


@pytest.mark.slow
def test_a_race_that_broke_off_goes_on(
    jostle: Any, command: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert jostle(*command)[0] == 0
    whole, at_once = (tmp_path / "top.race.json").read_text(), Client.answers
    for fail_after in (0, 4, 9, 12):
        for name in ("top.txt", "top.race.json", "top.race.journal.jsonl"):
            (tmp_path / name).unlink()
        monkeypatch.setattr(Client, "answers", 0)
        monkeypatch.setattr(Client, "fail_after", fail_after)
        code, shown = jostle(*command)
        assert code == 1
        assert "the engine went away" in shown
        assert not (tmp_path / "top.txt").exists()
        with (tmp_path / "top.race.journal.jsonl").open("a") as journal:
            journal.write('{"torn')
        monkeypatch.setattr(Client, "fail_after", None)
        assert jostle(*command)[0] == 0
        assert (tmp_path / "top.race.json").read_text() == whole
        assert Client.answers == at_once, "nothing is asked twice"


@pytest.mark.slow
def test_a_race_that_ended_goes_on_with_more_to_spend(
    jostle: Any, command: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    less, more = [*command[:-1], 10_000], command
    assert jostle(*more)[0] == 0
    whole = json.loads((tmp_path / "top.race.json").read_text())
    at_once = Client.answers
    monkeypatch.setattr(Client, "answers", 0)
    assert jostle(*less, "--overwrite")[0] == 0
    assert 0 < Client.answers < at_once
    code, shown = jostle(*more, "--seed", 1)
    assert code == 2
    assert "a finished race with another config is there; --overwrite" in shown
    assert jostle(*more)[0] == 0
    assert json.loads((tmp_path / "top.race.json").read_text())["standings"] == whole["standings"]
    lines = (tmp_path / "top.race.journal.jsonl").read_text().splitlines()
    asked = [
        (task_id, pair["instance_id"], pair["perturbation"])
        for line in lines
        for task_id, pairs in json.loads(line)["pairs"].items()
        for pair in pairs
    ]
    assert len(asked) == len(set(asked)), "nothing is asked twice"


@pytest.mark.slow
def test_only_the_same_race_goes_on(
    jostle: Any, command: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Client, "fail_after", 10)
    assert jostle(*command)[0] == 1
    code, shown = jostle(*command, "--seed", 1)
    assert code == 2
    assert "an unfinished race with another config is there; --overwrite" in shown
    assert "with another race is there" in jostle(*command, "--prefixes-kept")[1]
    monkeypatch.setattr(Client, "weights_version", "other")
    shown = jostle(*command)[1]
    assert "an unfinished race of another model is there, somewhere (base) and somewhere" in shown
    monkeypatch.setattr(Client, "weights_version", "base")
    wider = Client.served.model_copy(update={"max_model_len": 4096})
    narrow = Client.served
    monkeypatch.setattr(Client, "served", wider)
    assert "max_model_len 2048 and 4096; --overwrite" in jostle(*command)[1]
    monkeypatch.setattr(Client, "served", narrow)
    monkeypatch.setattr(Client, "fail_after", None)
    code, shown = jostle(*command[:-1], 40_000)
    assert code == 0, shown
    assert " of 40,000 tokens" in shown


@pytest.mark.slow
def test_a_race_touches_no_scoring_of_the_same_name(
    jostle: Any, command: list[Any], tmp_path: Path
) -> None:
    scoring = ScoreFiles(tmp_path / "top.parquet")
    kept = (scoring.settings, scoring.journal, scoring.engine_log, scoring.paraphrases)
    for path in kept:
        path.write_text("an unfinished scoring\n")
    assert jostle(*command)[0] == 0
    assert jostle(*command, "--overwrite")[0] == 0
    assert {path.read_text() for path in kept} == {"an unfinished scoring\n"}


def test_a_budget_that_is_too_small_starts_no_engine(
    jostle: Any, command: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_engine(*_: object, **__: object) -> None:
        raise AssertionError("started an engine")

    monkeypatch.setattr("engine.process.engine_process.EngineProcess.start", no_engine)
    without_url = [word for word in command if word not in ("--url", "http://nowhere")]
    code, shown = jostle(*without_url[:-1], 100)
    assert code == 2
    assert "'budget': the first pairs of all tasks cost" in shown


def test_an_engine_is_started_where_none_is_named(
    jostle: Any, command: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []

    class Own:
        def __init__(self, location: str, *_: object) -> None:
            started.append(location)
            self.client = Client()

        def __enter__(self) -> Own:
            return self

        def __exit__(self, *_error: object) -> None:
            started.append("ended")

    monkeypatch.setattr("training.commands.launch.OwnEngine", Own)
    without_url = [word for word in command if word not in ("--url", "http://nowhere")]
    assert jostle(*without_url)[0] == 0
    assert started == ["smollm2-135m", "ended"]


def test_a_config_describes_the_prompts_of_a_race(
    jostle: Any, command: list[Any], tmp_path: Path
) -> None:
    config = tmp_path / "score.toml"
    config.write_text('measure = "label_bald"\n')
    code, shown = jostle(*command, "--config", config)
    assert code == 2
    assert "a race goes by prompt_uncertainty" in shown
    config.write_text('[perturbation]\nname = "paraphrase"\n')
    code, shown = jostle(*command, "--config", config)
    assert code == 2
    assert "a race cannot ask for paraphrases" in shown
    config.write_text('[prompt]\nlayout = "plain"\n')
    assert jostle(*command, "--config", config)[0] == 0
    settings = json.loads((tmp_path / "top.race.settings.json").read_text())
    assert settings["config"]["prompt"]["layout"] == "plain"
