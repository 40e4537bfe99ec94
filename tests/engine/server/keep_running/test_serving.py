"""What `jostle serve` refuses before it starts anything."""

from __future__ import annotations

import inspect
import io
import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.errors import InputError
from engine.process.engine_process import EngineProcess
from engine.server.keep_running import serving as module
from engine.server.keep_running.serving import serve


@pytest.fixture(autouse=True)
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        pytest.fail("looked for the model, or started it")

    monkeypatch.setattr(module, "resolve_model", fail)
    monkeypatch.setattr(EngineProcess, "start", fail)


@pytest.mark.parametrize("taken", ["127.0.0.1", "0.0.0.0"])
def test_a_taken_port(taken: str) -> None:
    with socket.socket() as other:
        other.bind((taken, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=f"'--port': port {port} of 127.0.0.1 is taken"):
            serve("smollm2-135m", port=port)


@pytest.mark.parametrize("host", ["127.0.0.999", "no.such.host.invalid"])
def test_an_address_that_is_none_of_this_machine(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "key")
    with pytest.raises(InputError, match=f"'--port': cannot listen on port 8000 of '{host}'"):
        serve("smollm2-135m", host=host)


def test_a_taken_unix_socket(tmp_path: object) -> None:
    path = f"{tmp_path}/s"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        with pytest.raises(InputError, match=f"{path}, field '--uds': cannot listen there"):
            serve("smollm2-135m", extra_args=["--uds", path])


def test_what_it_says_is_read_at_once_through_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(pipe))
    inspect.signature(serve).parameters["say"].default("ready")
    assert pipe.getvalue() == b"ready\n"


def test_a_server_that_its_watcher_could_not_ask() -> None:
    with pytest.raises(InputError, match="'--ssl-cert-reqs': who watches the server has no cert"):
        serve("smollm2-135m", port=0, extra_args=["--ssl-cert-reqs=2"])
    with pytest.raises(InputError, match="'--headless': has no routes to ask; start it by hand"):
        serve("smollm2-135m", port=0, extra_args=["--headless"])
    for flags in (["--config", "x.yaml"], ["--config=x.yaml"]):
        with pytest.raises(InputError, match=r"'--config': .* pass its flags themselves"):
            serve("smollm2-135m", port=0, extra_args=flags)


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "resolve_model", lambda model: Path(model))
    monkeypatch.setattr(module, "check_whole", lambda *_: None)


@pytest.mark.usefixtures("resolved")
def test_a_live_file_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InputError, match=f"^{tmp_path}: cannot be written to"):
        serve("m", port=0, live_file=tmp_path / "live.json")


@pytest.mark.usefixtures("resolved")
def test_a_driver_that_fails_later_makes_no_other_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = iter([("a GPU",), ()])
    monkeypatch.setattr(module, "visible_gpus", lambda: next(asked))
    given: list[Any] = []
    settings = SimpleNamespace(device="cuda", reasons=())

    def start(*_: object, gpus: object, **__: object) -> Any:
        given.append(gpus)
        return SimpleNamespace(settings=settings, url="")

    class StartsTwice:
        def __init__(self, start: Any, *_: object) -> None:
            self.start = start

        def run(self) -> None:
            self.start(None)
            self.start(None)

    monkeypatch.setattr(EngineProcess, "start", start)
    monkeypatch.setattr(module, "Watcher", StartsTwice)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    serve("m", port=0, say=lambda line: None)
    assert given == [("a GPU",), ("a GPU",)]
