"""The client against a server that refuses, fails or falls silent: one clear error each."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.client import AsyncEngineClient, EngineClient
from engine.errors import EngineError, InputError
from engine.perturb import Paraphrase
from engine.protocol.api import SkippedTask
from engine.protocol.score_config import ScoreConfig
from tests.engine.client.canned_server import (
    CONFIG,
    Answer,
    Request,
    Server,
    error_line,
    score_ids,
    score_line,
    totals_line,
    well_behaved,
)
from tests.engine.examples import make_task
from tests.engine.weights.served import live


@pytest.mark.parametrize(
    ("chunks", "cut", "message"),
    [
        ([], False, "scoring broke off after 0 of 2 tasks"),
        ([score_line("a")], False, "scoring broke off after 1 of 2 tasks"),
        ([score_line("a")], True, "scoring broke off: "),
        ([score_line("a"), score_line("b")[:50]], True, "scoring broke off: "),
        ([score_line("a"), score_line("b")[:50]], False, "scoring broke off after 1 of 2 tasks"),
        (
            [score_line("a"), totals_line(2)],
            False,
            "says it sent 2 scores and skipped 0, 1 arrived",
        ),
        ([score_line("a"), totals_line(1)], False, "2 tasks were asked for"),
        ([score_line("a"), b"<html>\n"], False, "the server's answer is not understood"),
        ([score_line("a"), b"17\n"], False, "the server's answer is not understood"),
        ([score_line("a"), b"[]\n"], False, "the server's answer is not understood"),
        ([score_line("a"), b'{"task_id": "b"}\n'], False, "the server's answer is not understood"),
        ([score_line("a"), b'{"done": 1}\n'], False, "the server's answer is not understood"),
        ([score_line("a"), b'{"error": "x"}\n'], False, "the server's answer is not understood"),
        ([score_line("a"), b"\xff\xfe\n"], False, "the server's answer is not understood"),
    ],
)
def test_a_stream_that_does_not_end_well_is_an_engine_error(
    server: Server, client: EngineClient, chunks: list[bytes], cut: bool, message: str
) -> None:
    server.answer = lambda request: Answer(chunks=chunks, cut=cut)
    read: list[str] = []

    def read_all() -> None:
        for score in client.score([make_task("a"), make_task("b")], CONFIG):
            read.append(score.task_id)

    with pytest.raises(EngineError) as caught:
        read_all()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert read == ["a"] * bool(chunks), "what arrived before is not lost"


def test_an_error_line_of_the_engine(server: Server, client: EngineClient) -> None:
    server.answer = lambda request: Answer(
        chunks=[score_line("a"), error_line(500, "pair b/i/j=1: no number")]
    )
    scores = client.score([make_task("a"), make_task("b")], CONFIG)
    assert next(scores).task_id == "a"
    with pytest.raises(EngineError, match="the engine answered 500: pair b/i/j=1: no number"):
        next(scores)


def test_an_error_line_about_the_input(server: Server, client: EngineClient) -> None:
    server.answer = lambda request: Answer(
        chunks=[error_line(400, "record b/i/j=1: too long", "input")]
    )
    with pytest.raises(InputError, match=r"^record b/i/j=1: too long$") as caught:
        score_ids(client, "b")
    assert caught.value.field == "input"


@pytest.mark.parametrize("status", [400, 422])
def test_refused_input(server: Server, client: EngineClient, status: int) -> None:
    body = error_line(status, "record a, field 'definition': empty", "definition")
    server.answer = lambda request: Answer(status, [body])
    with pytest.raises(InputError, match=r"record a, field 'definition': empty") as caught:
        score_ids(client, "a")
    assert caught.value.field == "definition"


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (503, error_line(503, "weights are being loaded"), "503: weights are being loaded"),
        (500, b"Internal Server Error", "500: Internal Server Error"),
        (502, b'{"detail": "bad gateway"}', '502: {"detail": "bad gateway"}'),
        (401, b'{"error": "Unauthorized"}', '401: {"error": "Unauthorized"}'),
        (404, b'{"error":{"message":"no model b"}}', "404: no model b"),
        (500, b"", "500: "),
    ],
)
def test_a_failing_server_is_an_engine_error(
    server: Server, client: EngineClient, status: int, body: bytes, message: str
) -> None:
    server.answer = lambda request: Answer(status, [body] if body else [])
    for call in (lambda: score_ids(client, "a"), client.weights):
        with pytest.raises(EngineError) as caught:
            call()
        assert str(caught.value) == f"the engine answered {message}".rstrip("\n")


def test_a_server_without_our_routes_is_told(server: Server, client: EngineClient) -> None:
    server.answer = lambda request: Answer(404, [b'{"detail":"Not Found"}'])
    with pytest.raises(EngineError, match=r"none of jostle's routes; .* --host 127\.0\.0\.1$"):
        client.weights()


def test_a_silent_server_is_an_engine_error(server: Server) -> None:
    wait = threading.Event()
    server.answer = lambda request: Answer(chunks=[score_line("a"), totals_line(1)], wait=wait)
    with (
        EngineClient(server.url, timeout_s=0.1) as client,
        pytest.raises(EngineError, match="scoring broke off: timed out"),
    ):
        score_ids(client, "a")
    wait.set()


def test_outputs_may_take_longer_than_a_silence(server: Server) -> None:
    def slow(request: Request) -> Answer:
        if request.path == "/v1/models":
            return Answer(chunks=[b'{"data": [{"id": "m"}]}'])
        time.sleep(0.2)
        choice = {"index": 0, "text": "out", "finish_reason": "stop", "token_ids": [1]}
        answer = {"choices": [choice], "tokens": [1]}
        return Answer(chunks=[json.dumps(answer).encode()])

    server.answer = slow
    with EngineClient(server.url, timeout_s=0.1) as client:
        assert client.generate([[1, 2]], 4) == ["out"]
        assert client.complete([[1, 2]], {}) == ["out"]
        with pytest.raises(EngineError, match="timed out"):
            client.weights()


def test_a_load_of_weights_may_take_longer_than_a_silence(server: Server, tmp_path: Path) -> None:
    def slow(request: Request) -> Answer:
        time.sleep(0.2)
        return Answer(chunks=[live("v1", str(tmp_path)).model_dump_json().encode()])

    server.answer = slow
    with EngineClient(server.url, timeout_s=0.1) as client:
        assert client.load_weights(tmp_path, "v1").version == "v1"
        assert client.release_weights().version == "v1"
        assert client.restore_weights().version == "v1"


def test_a_server_whose_machine_is_gone_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    options: list[list[tuple[int, int, int]]] = []

    def watched(kind: Callable[..., Any]) -> Callable[..., Any]:
        def made(*given: Any, **named: Any) -> Any:
            options.append(named["socket_options"])
            return kind(*given, **named)

        return made

    for name in ("HTTPTransport", "AsyncHTTPTransport"):
        monkeypatch.setattr(httpx, name, watched(getattr(httpx, name)))
    EngineClient("http://127.0.0.1:9").close()
    AsyncEngineClient("http://127.0.0.1:9")
    assert [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1) in each for each in options] == [True] * 2


def test_a_task_that_is_not_unicode_is_named_or_skipped(server: Server) -> None:
    server.answer = well_behaved
    broken = make_task("b", n_instances=3)
    half = broken.instances[2].model_copy(update={"input": "half \ud800"})
    broken = broken.model_copy(update={"instances": (*broken.instances[:2], half)})
    tasks = [make_task("a"), broken, make_task("c")]
    skipped: list[SkippedTask] = []
    with EngineClient(server.url) as client:
        with pytest.raises(InputError, match="not Unicode") as told:
            list(client.score(tasks, CONFIG))
        assert (told.value.record, told.value.field) == ("b, instances[2]", "input")
        found = [score.task_id for score in client.score(tasks, CONFIG, skipped.append)]
    assert found == ["a", "c"]
    assert [(each.task_id, each.field) for each in skipped] == [("b", "input")]


def test_a_config_that_is_not_unicode_is_named(server: Server) -> None:
    server.answer = well_behaved
    texts = {"Say it": ("half \ud800",)}
    config = ScoreConfig(perturbation=Paraphrase(texts=texts))
    with EngineClient(server.url) as client, pytest.raises(InputError, match="not Unicode") as told:
        list(client.score([make_task("a", definition="Say it")], config))
    assert told.value.field == "config.perturbation.texts.Say it[0]"


def test_a_prompt_that_is_not_unicode_is_an_error(server: Server) -> None:
    server.answer = lambda request: Answer(chunks=[b'{"data": [{"id": "m"}]}'])
    with (
        EngineClient(server.url) as client,
        pytest.raises(InputError, match="field 'prompt': not Unicode"),
    ):
        client.samples(["fine", "half \ud800"])
    assert [request.path for request in server.requests] == ["/v1/models"]


def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with EngineClient(url) as client:
            with pytest.raises(EngineError, match=r"scoring broke off: .*refused"):
                score_ids(client, "a")
            with pytest.raises(EngineError, match=rf"^GET {url}/v1/weights: .*refused"):
                client.weights()


def test_an_address_that_is_none() -> None:
    with pytest.raises(InputError, match="no address of the form"):
        EngineClient("localhost:8000")
