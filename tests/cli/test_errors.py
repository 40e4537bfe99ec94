"""An error is one clear line on stderr, with an exit code that says whose it is."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

import pytest
from pydantic import BaseModel, ConfigDict

from cli import main as cli_main
from engine.errors import EngineError, GaveUpError, InputError, TrainingError


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid")

    rounds: int = 2


def _raise(error: Exception) -> Callable[[], None]:
    def app() -> None:
        raise error

    return app


def _exit_code(monkeypatch: pytest.MonkeyPatch, app: Callable[[], None]) -> object:
    monkeypatch.setattr(cli_main, "app", app)
    with pytest.raises(SystemExit) as stop:
        cli_main.main()
    return stop.value.code


@pytest.fixture(autouse=True)
def _no_debug(monkeypatch: pytest.MonkeyPatch) -> None:
    # Set and then removed, so that what a test sets in the process is undone after it.
    monkeypatch.setenv("JOSTLE_DEBUG", "0")
    monkeypatch.delenv("JOSTLE_DEBUG")


def test_input_error_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = InputError("is not\n  JSON", file="pool/a.json", record="t1", field="definition")
    assert _exit_code(monkeypatch, _raise(error)) == 2
    shown = capsys.readouterr()
    assert shown.err == "jostle: error: pool/a.json, record t1, field 'definition': is not JSON\n"
    assert shown.out == ""


def test_what_standard_output_has_no_letter_for_is_written_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = io.TextIOWrapper(io.BytesIO(), "latin-1", write_through=True)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(cli_main, "app", lambda: print("\u2713 \xe9"))
    cli_main.main()
    assert out.buffer.getvalue() == b"\\u2713 \xe9\n"


@pytest.mark.parametrize("kind", [EngineError, TrainingError])
def test_failed_process_is_exit_code_1(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _exit_code(monkeypatch, _raise(kind("it died"))) == 1
    assert capsys.readouterr().err == "jostle: error: it died\n"


def test_a_watched_server_that_failed_too_often_is_exit_code_70(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _exit_code(monkeypatch, _raise(GaveUpError("that was failure 3"))) == 70
    assert capsys.readouterr().err == "jostle: error: that was failure 3\n"


def test_bad_config_names_the_field(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def app() -> None:
        _Config.model_validate({"round": 3})

    assert _exit_code(monkeypatch, app) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("jostle: error: _Config, field 'round': Extra inputs")
    assert shown.count("\n") == 1


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOSTLE_DEBUG", "1")
    monkeypatch.setattr(cli_main, "app", _raise(InputError("no")))
    with pytest.raises(InputError):
        cli_main.main()


def test_our_own_mistakes_are_not_dressed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_main, "app", _raise(ValueError("a bug")))
    with pytest.raises(ValueError, match="a bug"):
        cli_main.main()


def test_missing_model_folder_from_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["jostle", "serve", "./no/such/model"])
    with pytest.raises(SystemExit) as stop:
        cli_main.main()
    assert stop.value.code == 2
    assert capsys.readouterr().err == "jostle: error: no/such/model: no such model folder\n"


def test_a_limit_is_taken_beside_those_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOSTLE_LIMITS", '{"wait_seconds": 5}')
    given = ["jostle", "serve", "./no/such/model", "--limit", "drain_seconds=6"]
    monkeypatch.setattr(sys, "argv", given)
    with pytest.raises(SystemExit) as stop:
        cli_main.main()
    assert stop.value.code == 2
    assert "drain_seconds must be less than wait_seconds (5.0)" in capsys.readouterr().err


def test_usage_error_is_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["jostle", "demo", "--rounds", "none"])
    with pytest.raises(SystemExit) as stop:
        cli_main.main()
    assert stop.value.code == 2
    assert "--rounds" in capsys.readouterr().err


def test_a_name_that_the_system_refuses_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _exit_code(monkeypatch, _raise(OSError(36, "File name too long", "n" * 300))) == 2
    assert capsys.readouterr().err == f"jostle: error: {'n' * 300}: File name too long\n"
    full = OSError(28, "No space left on device")  # of a file that is open the system names none
    assert _exit_code(monkeypatch, _raise(full)) == 2
    assert capsys.readouterr().err == "jostle: error: No space left on device\n"
    monkeypatch.setattr(cli_main, "app", _raise(OSError("ours")))
    with pytest.raises(OSError, match="ours"):
        cli_main.main()
