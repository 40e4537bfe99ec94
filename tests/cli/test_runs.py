"""The commands of runs, as a person types them."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from pathlib import Path

import pytest

from cli import main as cli_main
from tests.engine.weights.served import SERVED
from tests.training.fakes import FakeEngine, KilledError
from tests.training.report.made_run import make_records, make_tasks
from tests.training.report.page_data import page_data
from tests.training.run.test_rounds import make_run
from training.run.state import RunStep


def jostle(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """The exit code of a command."""
    monkeypatch.setattr(sys, "argv", ["jostle", *map(str, words)])
    try:
        cli_main.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_a_config_is_written_once_and_shown_resolved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.toml"
    assert jostle(monkeypatch, "config", "init", path) == 0
    assert "[train]" in path.read_text()
    assert jostle(monkeypatch, "config", "init", path) == 2
    assert "is there already; --overwrite replaces it" in capsys.readouterr().err
    assert jostle(monkeypatch, "config", "init", path, "--overwrite") == 0
    capsys.readouterr()
    assert jostle(monkeypatch, "config", "show", path, "--set", "train.learning_rate=0.5") == 0
    assert "learning_rate = 0.5" in capsys.readouterr().out


def test_faults_of_a_run_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[train]\nlerning_rate = 1\n")
    assert jostle(monkeypatch, "run", path, "--run-dir", tmp_path / "run") == 2
    shown = capsys.readouterr().err
    assert "field 'train.lerning_rate': unknown key; valid here: " in shown
    assert shown.count("\n") == 1
    path.write_text("")
    assert jostle(monkeypatch, "run", path, "--run-dir", tmp_path / "run", "--resume") == 2
    assert "holds no run to go on with" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_status_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KilledError):
        make_run(tmp_path, die_at=("begin", 0, RunStep.TRAIN)).run()
    assert jostle(monkeypatch, "status", tmp_path) == 0
    assert "nobody works on it" in " ".join(capsys.readouterr().out.split())
    assert jostle(monkeypatch, "status", tmp_path, "--json") == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    assert [step["state"] for step in steps[:5]] == ["done", "done", "done", "current", "waiting"]
    assert jostle(monkeypatch, "status", tmp_path / "none") == 2


@pytest.mark.parametrize("command", ["status", "report", "map", "compare"])
def test_a_folder_without_a_whole_state_is_told(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [command, tmp_path, *(["-o", tmp_path / "map.svg"] if command == "map" else [])]
    assert jostle(monkeypatch, *words) == 2
    assert re.search(r"holds (no run|neither a run)", capsys.readouterr().err)
    (tmp_path / "state.json").write_text('{"rounds": 1')
    assert jostle(monkeypatch, *words) == 2
    assert "state.json" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_is_reported_mapped_and_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = make_tasks(56)
    runs = [make_records(tmp_path / name, tasks, gain=gain) for name, gain in RUNS.items()]
    one, two = (run.path for run in runs)
    # Their pool is the bundled one, as far as their config says.
    assert jostle(monkeypatch, "report", one) == 0
    report = page_data(one / "report.html")
    assert report["tasks"]["id"] == [task.id for task in tasks]
    out = tmp_path / "map.svg"
    assert jostle(monkeypatch, "map", one, "-o", out) == 0
    assert "round 1: 52 tasks" in out.read_text()
    assert jostle(monkeypatch, "map", one, "-o", out, "--overwrite", "--selected", out) == 2
    assert "field '--selected': goes with a file of scores" in capsys.readouterr().err
    page = tmp_path / "compare.html"
    assert jostle(monkeypatch, "compare", one, two, "-o", page) == 0
    assert "two less one, 8 tasks: ROUGE-L +4.0 (+4.0 to +4.0)" in capsys.readouterr().out
    assert jostle(monkeypatch, "compare", one, two, "-o", page) == 2
    assert "is there already" in capsys.readouterr().err


RUNS = {"one": 10.0, "two": 12.0}


def test_an_engine_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path).run()
    checkpoint = tmp_path / "round-01" / "checkpoint"
    code = jostle(monkeypatch, "reload", checkpoint, "--url", "http://127.0.0.1:9")
    assert code == 1
    assert "http://127.0.0.1:9/v1/weights" in capsys.readouterr().err
    assert jostle(monkeypatch, "reload", tmp_path, "--url", "http://127.0.0.1:9") == 2
    assert "no manifest.json" in capsys.readouterr().err


def test_an_engine_goes_back_to_what_it_was_started_with(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loads: list[tuple[Path, str]] = []
    engine = FakeEngine(version="round-03-abc")

    def load(path: Path, version: str) -> None:
        loads.append((path, version))
        engine.version = version

    engine.load_weights = load  # type: ignore[method-assign,assignment]
    monkeypatch.setattr("cli.reload.connect", lambda *_: contextlib.nullcontext(engine))
    for _ in range(2):
        assert jostle(monkeypatch, "reload", "--base") == 0
        assert f"{SERVED.version} is live" in capsys.readouterr().out
    assert loads == [(Path(SERVED.model), SERVED.version)], "the second time there is nothing to do"
    for words in ((), ("somewhere", "--base")):
        assert jostle(monkeypatch, "reload", *words) == 2
        assert "either a checkpoint or --base" in capsys.readouterr().err
    for together, told in (
        (("--base", "--publish"), "field '--publish': goes with a checkpoint"),
        (("--base", "--unverified"), "field '--unverified': goes with a checkpoint"),
        (("somewhere", "--publish", "--unverified"), "either of the two"),
    ):
        assert jostle(monkeypatch, "reload", *together) == 2
        assert told in capsys.readouterr().err


def test_a_sweep_needs_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.toml"
    path.write_text("")
    assert jostle(monkeypatch, "sweep", path, "--seeds", "0,x") == 2
    assert "whole numbers" in capsys.readouterr().err
