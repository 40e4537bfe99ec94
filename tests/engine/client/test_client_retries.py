"""Both clients against a server that fails for a while: nothing is lost, nothing comes twice."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.client import EngineClient, wire
from engine.client.async_client import AsyncEngineClient
from engine.client.line_stream import LineBuffer
from engine.client.wire import Patience
from engine.errors import EngineError, InputError, UnavailableError
from engine.keys import ADMIN_HEADER
from engine.protocol.api import TaskScore
from engine.protocol.completions import TokenPair
from tests.engine.client.canned_server import (
    CONFIG,
    Answer,
    Request,
    Server,
    error_line,
    score_line,
    totals_line,
    well_behaved,
)
from tests.engine.examples import make_task
from tests.engine.weights.served import live

IDS = ["a", "b", "c"]
STATE = live("v1").model_dump_json().encode()

Call = Callable[..., Any]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of the pauses, which double, is short."""
    monkeypatch.setattr(wire, "_FIRST_PAUSE", 0.02)


def sync_call(url: str, method: str, *args: Any, **options: Any) -> Any:
    with EngineClient(url, timeout_s=600, **options) as client:
        answer = getattr(client, method)(*args)
        return list(answer) if method == "score" else answer


def async_call(url: str, method: str, *args: Any, **options: Any) -> Any:
    async def run() -> Any:
        async with AsyncEngineClient(url, timeout_s=600, **options) as client:
            if method == "score":
                return [score async for score in client.score(*args)]
            return await getattr(client, method)(*args)

    return asyncio.run(run())


@pytest.fixture(params=[sync_call, async_call], ids=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Call:
    chosen: Call = request.param
    return chosen


def in_turn(*answers: Answer | Callable[[Request], Answer]) -> Callable[[Request], Answer]:
    """One answer per request; the last one again and again."""
    left = list(answers)

    def answer(request: Request) -> Answer:
        now = left.pop(0) if len(left) > 1 else left[0]
        return now(request) if callable(now) else now

    return answer


def score(call: Call, server: Server, **options: Any) -> list[str]:
    tasks = [make_task(name) for name in IDS]
    scores: list[TaskScore] = call(server.url, "score", tasks, CONFIG, **options)
    return [one.task_id for one in scores]


def asked(server: Server) -> list[list[str]]:
    return [[task["id"] for task in request.body["tasks"]] for request in server.requests]


@pytest.mark.slow
@pytest.mark.parametrize(
    "broken",
    [
        Answer(chunks=[score_line("a")], cut=True),
        Answer(chunks=[score_line("a"), score_line("b")[:40]], cut=True),
        Answer(chunks=[score_line("a")]),
        Answer(chunks=[score_line("a"), error_line(503, "the engine died")]),
    ],
)
def test_a_stream_is_taken_up_where_it_broke_off(
    call: Call, server: Server, broken: Answer
) -> None:
    server.answer = in_turn(broken, Answer(503, [error_line(503, "starting")]), well_behaved)
    assert score(call, server) == IDS
    assert asked(server) == [IDS, ["b", "c"], ["b", "c"]]


def test_all_scores_there_but_not_the_totals(call: Call, server: Server) -> None:
    server.answer = in_turn(Answer(chunks=[score_line(name) for name in IDS], cut=True))
    assert score(call, server) == IDS
    assert len(server.requests) == 1


def test_patience_ends(call: Call, server: Server) -> None:
    server.answer = in_turn(Answer(503, [error_line(503, "busy")]))
    with pytest.raises(EngineError, match="the engine answered 503: busy"):
        score(call, server, patience_s=0.6)
    assert len(server.requests) > 1


@pytest.mark.parametrize("status", [500, 400, 401])
def test_what_would_fail_again_is_not_tried_again(call: Call, server: Server, status: int) -> None:
    server.answer = in_turn(Answer(status, [error_line(status, "no")]), well_behaved)
    with pytest.raises(InputError if status == 400 else EngineError, match="no"):
        score(call, server)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_what_a_proxy_could_not_pass_on_is_tried_again(
    call: Call, server: Server, status: int
) -> None:
    """Where an engine has answered before; of one that never has, nothing is known."""
    lost, state = Answer(status, [b"<html>"]), Answer(chunks=[STATE])
    server.answer = in_turn(state, lost, state)
    with EngineClient(server.url) as client:
        assert [client.weights().version for _ in range(2)] == ["v1", "v1"]
    if status in (408, 429, 503):  # they may be the engine's own
        server.answer = in_turn(lost, well_behaved)
        assert score(call, server) == IDS
    else:
        server.answer = in_turn(lost, state)
        with pytest.raises(EngineError, match=f"answered {status}"):
            call(server.url, "weights")


@pytest.mark.parametrize(
    "lost", [Answer(chunks=[STATE[:9]], cut=True), Answer(502, [b"<html>"]), Answer(504)]
)
def test_a_load_that_was_cut_is_not_tried_again(
    call: Call, server: Server, lost: Answer, tmp_path: Path
) -> None:
    server.answer = in_turn(lost, Answer(chunks=[STATE]))
    with pytest.raises(EngineError, match=r"/v1/weights: |answered 50[24]: "):
        call(server.url, "load_weights", tmp_path, "v1")
    assert len(server.requests) == 1
    assert call(server.url, "weights").version == "v1"


def test_what_changes_nothing_is_tried_again(call: Call, server: Server, tmp_path: Path) -> None:
    pair = TokenPair(prompt_token_ids=(1,), completion_token_ids=(2,))
    body = b'{"weights_version": "v1", "results": [], "usage": {}}'
    server.answer = in_turn(
        Answer(chunks=[body[:9]], cut=True),
        Answer(503, [error_line(503, "busy")]),
        Answer(chunks=[body]),
    )
    assert call(server.url, "completion_logprobs", [pair]).weights_version == "v1"
    server.answer = in_turn(Answer(503, [error_line(503, "busy")]), Answer(chunks=[STATE]))
    assert call(server.url, "load_weights", tmp_path, "v1").version == "v1"


def test_both_keys_are_sent(call: Call, server: Server, tmp_path: Path) -> None:
    server.answer = in_turn(Answer(chunks=[STATE]))
    call(server.url, "load_weights", tmp_path, "v1", api_key="k", admin_key="a")
    sent = {name.lower(): value for name, value in server.requests[0].headers.items()}
    assert sent["authorization"] == "Bearer k"
    assert sent[ADMIN_HEADER.lower()] == "a"


def test_an_address_where_nobody_ever_was_is_not_waited_for(call: Call) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        for method, args in (("weights", ()), ("score", ([make_task("a")], CONFIG))):
            with pytest.raises(EngineError, match=r"(?i)refused|all connection attempts failed"):
                call(url, method, *args, patience_s=3_600)


def test_a_server_that_went_away_is_waited_for() -> None:
    first = Server()
    first.answer = well_behaved
    port = int(first.url.rsplit(":")[-1])
    with EngineClient(first.url, timeout_s=600, tasks_per_request=1) as client:
        scores = client.score([make_task(name) for name in IDS], CONFIG)
        assert next(scores).task_id == "a"
        first.close()
        again: list[Server] = []

        def start() -> None:
            again.append(Server(port))
            again[0].answer = well_behaved

        threading.Timer(0.2, start).start()
        try:
            assert [one.task_id for one in scores] == ["b", "c"]
        finally:
            again[0].close()


def test_a_server_that_was_given_up_is_not_waited_for_again() -> None:
    first = Server()
    first.answer = well_behaved
    with EngineClient(first.url, timeout_s=600, patience_s=0.6) as client:
        assert len(list(client.score([make_task("a")], CONFIG))) == 1
        first.close()
        seconds = []
        for _ in range(2):
            started = time.monotonic()
            with pytest.raises(EngineError, match="refused"):
                client.weights()
            seconds.append(time.monotonic() - started)
    assert seconds[0] >= 0.25 > seconds[1]


def test_generate_and_ready(call: Call, server: Server) -> None:
    def answer(request: Request) -> Answer:
        if request.path == "/ready":
            return Answer(chunks=[b'{"ready": true, "weights_version": "v1"}'])
        if request.path == "/v1/models":
            return Answer(chunks=[b'{"data": [{"id": "m"}]}'])
        assert request.body["model"] == "m"
        return Answer(chunks=[b'{"choices": [{"index": 0, "text": "yes"}]}'])

    server.answer = in_turn(Answer(503, [error_line(503, "loading")]), answer)
    assert call(server.url, "ready").weights_version == "v1"
    assert call(server.url, "generate", [[1, 2]], 3) == ["yes"]


def test_lines_are_put_together_whatever_the_chunks() -> None:
    body = score_line("ä") + totals_line(1)
    for size in (1, 7, len(body)):
        buffer = LineBuffer()
        lines = [
            line for i in range(0, len(body), size) for line in buffer.feed(body[i : i + size])
        ]
        assert lines == body.splitlines()


def test_patience_waits_as_long_as_it_is_asked_to() -> None:
    patience = Patience(60)
    assert patience.pause(UnavailableError("busy", retry_after=5)) == 5
    assert patience.pause(UnavailableError("busy", retry_after=500)) == 10
    with pytest.raises(UnavailableError):
        Patience(0, met=True).pause(UnavailableError("busy"))
