"""What `--quiet`, `--json` and Ctrl-C do, on every command alike."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from cli import main as cli_main
from engine.errors import EngineError
from tests.training.report.made_run import make_records, make_tasks
from training.report.progress_lines import ProgressLines, open_progress


def typed(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """The exit code of a command line."""
    monkeypatch.setenv("JOSTLE_PROGRESS", "")  # what an option sets goes away with the test
    monkeypatch.setattr(sys, "argv", ["jostle", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        cli_main.main()
    return int(stop.value.code or 0)


def test_ctrl_c_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("training.commands.run_command.run_from_file", stop)
    assert typed(monkeypatch, "run", "my run.toml", "--set", "seed=1") == 130
    told = capsys.readouterr().err
    line = "jostle: stopped; goes on from here with: jostle run 'my run.toml' --set seed=1\n"
    assert told == line
    monkeypatch.setattr("training.commands.machine_checks.check_machine", stop, raising=False)
    monkeypatch.setattr("training.report.run_report.write_run_report", stop)
    assert typed(monkeypatch, "report", "runs/none") == 130
    assert capsys.readouterr().err == "jostle: stopped\n"
    assert typed(monkeypatch, "--json", "report", "runs/none") == 130
    event = json.loads(capsys.readouterr().err)
    assert event == {"event": "stopped", "exit": 130, "message": "jostle: stopped"}


def test_a_failed_engine_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise EngineError("the engine is gone")

    monkeypatch.setattr("training.commands.run_command.run_from_file", fail)
    monkeypatch.setattr("engine.pools.open_pool", fail)
    assert typed(monkeypatch, "score", "pool", "-o", "s.parquet", "--overwrite") == 1
    assert "goes on from here with: jostle score pool -o s.parquet\n" in capsys.readouterr().err
    assert typed(monkeypatch, "run", "run.toml") == 1
    line = "jostle: error: the engine is gone\ngoes on from here with: jostle run run.toml\n"
    assert capsys.readouterr().err == line
    monkeypatch.setattr("training.report.run_report.write_run_report", fail)
    assert typed(monkeypatch, "report", "runs/none") == 1
    assert capsys.readouterr().err == "jostle: error: the engine is gone\n"


@pytest.mark.parametrize("key", [["--api-key", "secret"], ["--api-key=secret"]])
@pytest.mark.parametrize("as_json", [False, True])
def test_how_to_go_on_tells_no_key(
    key: list[str],
    as_json: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise EngineError("the engine is gone")

    monkeypatch.setattr("engine.pools.open_pool", fail)
    options = ["--json"] * as_json
    assert typed(monkeypatch, *options, "score", "pool", *key, "-o", "s.parquet") == 1
    told = capsys.readouterr().err
    again = shlex.join(["jostle", *options, "score", "pool", "-o", "s.parquet"])
    assert f"goes on from here, --api-key given again, with: {again}" in told
    assert "secret" not in told


def test_errors_are_json_where_progress_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(monkeypatch, "--json", "report", "no/run") == 2
    told = json.loads(capsys.readouterr().err)
    assert (told["event"], told["exit"]) == ("error", 2)
    assert "holds no run" in told["message"]


def test_progress_as_lines_or_none_at_all(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    monkeypatch.setenv("JOSTLE_PROGRESS", "json")
    with open_progress(Console()) as progress:
        assert isinstance(progress, ProgressLines)
        progress.open("score", 5, "tasks")
        progress.advance(1, detail="a")
        progress.advance(2)  # within a second of the last line
        progress.done("score", 1.23456, "5 tasks")
    shown = capsys.readouterr()
    assert shown.out == ""
    begin, advance, end = map(json.loads, shown.err.splitlines())
    assert begin == {"event": "begin", "step": "score", "total": 5, "unit": "tasks"}
    assert (advance["done"], advance["total"], advance["detail"]) == (1, 5, "a")
    assert (end["event"], end["seconds"], end["summary"]) == ("end", 1.235, "5 tasks")
    monkeypatch.setenv("JOSTLE_PROGRESS", "quiet")
    with open_progress(Console(force_terminal=True)) as progress:
        progress.open("score", 5, "tasks")
        progress.advance(1)
        progress.done("score", 1.0, "5 tasks")
    assert capsys.readouterr() == ("", "")


def test_a_status_on_the_web_is_served_on_loopback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_records(tmp_path / "run", make_tasks(12)).path

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("training.report.report_server.ReportServer.serve_forever", stop)
    assert typed(monkeypatch, "status", folder, "--web") == 130
    assert capsys.readouterr().out.startswith("http://127.0.0.1:")
    assert typed(monkeypatch, "status", folder, "--web", "--json") == 2
    assert typed(monkeypatch, "status", folder, "--port", 1) == 2
    assert "goes with --web" in capsys.readouterr().err
