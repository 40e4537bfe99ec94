"""What `jostle serve` refuses before it starts anything."""

from __future__ import annotations

import inspect
import io
import socket

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
