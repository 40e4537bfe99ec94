"""The report of a run in progress, over HTTP."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import httpx
import pytest

from engine.errors import InputError
from engine.files import read_json
from tests.training.report.made_run import make_records, make_tasks
from training.report.report_server import ReportServer
from training.run.state import RunState, RunStep, save_state


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ReportServer]:
    folder = make_records(tmp_path / "run", make_tasks(12))
    state = read_json(folder.state, RunState)
    going_on = {
        "completed": state.completed[:-1],
        "current_round": 1,
        "current_step": RunStep.EVALUATE,
    }
    save_state(folder, state.model_copy(update=going_on))
    with ReportServer(folder) as running:
        thread = Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_it_follows_the_run_and_answers_nothing_else(server: ReportServer, tmp_path: Path) -> None:
    get = httpx.Client(timeout=120).get
    first = get(server.url)
    assert "location.reload()" in first.text.rpartition("</html>")[2]
    assert "refresh" not in first.headers, "it would lose what stands behind the #"
    assert get(server.url).content == first.content
    state = tmp_path / "run" / "state.json"
    make_records(tmp_path / "other", make_tasks(12))
    (tmp_path / "other" / "state.json").replace(state)
    done = get(server.url)
    assert done.text.endswith("</html>\n")
    assert done.content != first.content
    assert not (tmp_path / "run" / "report.html").exists(), "who looks on writes nothing"
    assert get(server.url + "state.json").status_code == 404
    assert get(server.url, headers={"Host": "elsewhere.example:80"}).status_code == 404


def test_faults_are_told_in_the_browser_and_not_on_the_terminal(
    server: ReportServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def page() -> tuple[bytes, bool]:
        raise InputError("«нет»\nand a second line")

    monkeypatch.setattr(server, "page", page)
    told = httpx.get(server.url)
    assert (told.status_code, "«нет»\nand" in told.text) == (500, True)
    monkeypatch.setattr(server, "page", lambda: (b"page", True))
    here, gone = socket.socketpair()
    gone.sendall(b"GET / HTTP/1.0\r\nHost: localhost:1\r\n\r\n")
    gone.close()
    server.process_request_thread(here, ("127.0.0.1", 0))
    assert capsys.readouterr() == ("", "")


def test_within_a_step_it_is_written_now_and_then(
    server: ReportServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, written = [time.monotonic()], 0

    def write(_folder: object, _tasks: object, path: Path) -> None:
        nonlocal written
        written, now[0] = written + 1, now[0] + 2.0
        path.touch()

    def pages_after(seconds: float, record: str = "progress.json") -> int:
        now[0] += seconds
        with (tmp_path / "run" / record).open("a") as stream:
            stream.write(" ")
        server.page()
        return written

    monkeypatch.setattr("training.report.report_server.write_run_report", write)
    monkeypatch.setattr("training.report.report_server.time.monotonic", lambda: now[0])
    assert pages_after(0.0) == 1
    assert pages_after(19.0) == 1
    assert pages_after(2.0) == 2
    assert pages_after(0.0, "state.json") == 3, "a step has ended"
