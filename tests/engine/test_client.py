"""The client against a real HTTP server that answers, or misbehaves, as each test tells it to."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from engine.api import PairScore, Reference, TaskScore, TokenPair, Usage
from engine.client import EngineClient
from engine.config import ScoreConfig
from engine.errors import EngineError, InputError
from tests.engine.examples import make_task

CONFIG = ScoreConfig(n_instances=2, n_perturbations=1, seed=5)


@dataclass
class Answer:
    """What the server sends.

    Attributes:
        status: HTTP status.
        chunks: The body, piece by piece.
        cut: Whether the connection breaks instead of ending the body.
        wait: The server waits for it before every chunk but the first.
    """

    status: int = 200
    chunks: list[bytes] = field(default_factory=list)
    cut: bool = False
    wait: threading.Event | None = None


@dataclass
class Request:
    """What arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


class Server:
    """Answers every request with `answer(request)` and keeps what was asked."""

    def __init__(self, port: int = 0) -> None:
        self.requests: list[Request] = []
        self.answer: Callable[[Request], Answer] = lambda request: Answer(404)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle(self) -> None:
                with contextlib.suppress(ConnectionError):  # a client that has given up
                    super().handle()

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                raw = self.rfile.read(length)
                request = Request(
                    self.command, self.path, dict(self.headers), json.loads(raw) if raw else None
                )
                outer.requests.append(request)
                self._send(outer.answer(request))

            do_GET = do_POST  # noqa: N815

            def _send(self, answer: Answer) -> None:
                self.send_response(answer.status)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for number, chunk in enumerate(answer.chunks):
                    if number and answer.wait:
                        answer.wait.wait(5)
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                    self.wfile.flush()
                if answer.cut:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                else:
                    self.wfile.write(b"0\r\n\r\n")

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture
def client(server: Server) -> Iterator[EngineClient]:
    with EngineClient(server.url, timeout_s=5, patience_s=0) as running:
        yield running


def make_score(task_id: str) -> TaskScore:
    return TaskScore(
        task_id=task_id,
        prompt_uncertainty=0.25,
        prediction_probability=0.5,
        perplexity=2.0,
        n_instances=1,
        n_perturbations=1,
        weights_version="v1",
        references=(
            Reference(
                instance_id="i0",
                text="blue",
                token_ids=(5,),
                finish_reason="stop",
                n_prompt_tokens=9,
                n_positive_examples=2,
                n_negative_examples=0,
            ),
        ),
        pairs=(
            PairScore(
                instance_id="i0",
                perturbation=0,
                n_prompt_tokens=9,
                n_tokens=1,
                logprob=-0.7,
                probability=0.5,
            ),
        ),
        usage=Usage(pairs=1),
    )


def score_line(task_id: str) -> bytes:
    return make_score(task_id).model_dump_json().encode() + b"\n"


def totals_line(n_tasks: int) -> bytes:
    totals = {"done": True, "tasks": n_tasks, "weights_version": "v1"}
    return json.dumps(totals | {"usage": Usage().model_dump()}).encode() + b"\n"


def error_line(status: int, message: str, param: str | None = None) -> bytes:
    error = {"message": message, "type": "X", "param": param, "code": status}
    return json.dumps({"error": error}).encode() + b"\n"


def well_behaved(request: Request) -> Answer:
    ids = [task["id"] for task in request.body["tasks"]]
    return Answer(chunks=[*map(score_line, ids), totals_line(len(ids))])


def score_ids(client: EngineClient, *ids: str) -> list[str]:
    return [score.task_id for score in client.score([make_task(name) for name in ids], CONFIG)]


# --- Scoring ----------------------------------------------------------------------------------


def test_scores_arrive_whole_and_in_order(server: Server, client: EngineClient) -> None:
    server.answer = well_behaved
    scores = list(client.score([make_task("a"), make_task("b")], CONFIG))
    assert scores == [make_score("a"), make_score("b")]
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v1/prompt_uncertainty")
    assert request.body["stream"] is True
    assert ScoreConfig.model_validate(request.body["config"]) == CONFIG


def test_a_score_is_there_before_the_next_one_is_sent(server: Server, client: EngineClient) -> None:
    wait = threading.Event()
    server.answer = lambda request: Answer(
        chunks=[score_line("a"), score_line("b") + totals_line(2)], wait=wait
    )
    scores = client.score([make_task("a"), make_task("b")], CONFIG)
    assert next(scores).task_id == "a"
    wait.set()
    assert [score.task_id for score in scores] == ["b"]


def test_lines_may_be_cut_anywhere_on_the_way(server: Server, client: EngineClient) -> None:
    body = score_line("ä🙂") + totals_line(1)
    server.answer = lambda request: Answer(chunks=[body[i : i + 7] for i in range(0, len(body), 7)])
    assert score_ids(client, "ä🙂") == ["ä🙂"]


def test_texts_may_hold_what_unicode_calls_a_line_end(server: Server, client: EngineClient) -> None:
    name = "a\u2028b\u2029c\x85d"
    server.answer = well_behaved
    assert score_ids(client, name) == [name]


def test_only_the_sampled_instances_are_sent(server: Server, client: EngineClient) -> None:
    server.answer = well_behaved
    task = make_task("a", n_instances=30)
    list(client.score([task], CONFIG))
    (sent,) = server.requests[0].body["tasks"]
    sampled = task.sample_instances(CONFIG.n_instances, CONFIG.seed)
    assert [instance["id"] for instance in sent["instances"]] == [i.id for i in sampled]
    assert len(sent["positive_examples"]) == len(task.positive_examples)


def test_tasks_are_sent_in_batches_one_after_the_other(server: Server) -> None:
    server.answer = well_behaved
    taken: list[str] = []

    def pool() -> Iterator[Any]:
        for index in range(7):
            taken.append(str(index))
            yield make_task(str(index))

    with EngineClient(server.url, tasks_per_request=3) as client:
        scores = client.score(pool(), CONFIG)
        assert next(scores).task_id == "0"
        assert taken == ["0", "1", "2"], "the pool is read as far as needed"
        assert [score.task_id for score in scores] == ["1", "2", "3", "4", "5", "6"]
    batches = [[task["id"] for task in request.body["tasks"]] for request in server.requests]
    assert batches == [["0", "1", "2"], ["3", "4", "5"], ["6"]]


def test_no_tasks_no_request(server: Server, client: EngineClient) -> None:
    assert list(client.score([], CONFIG)) == []
    assert server.requests == []


def test_the_api_key_is_sent_as_bearer_token(server: Server) -> None:
    server.answer = well_behaved
    with EngineClient(server.url, api_key="secret") as client:
        assert score_ids(client, "a") == ["a"]
    assert server.requests[0].headers["Authorization"] == "Bearer secret"


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
        (404, b"[]", "404: []"),
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


def test_a_silent_server_is_an_engine_error(server: Server) -> None:
    wait = threading.Event()
    server.answer = lambda request: Answer(chunks=[score_line("a"), totals_line(1)], wait=wait)
    with (
        EngineClient(server.url, timeout_s=0.1) as client,
        pytest.raises(EngineError, match="scoring broke off: timed out"),
    ):
        score_ids(client, "a")
    wait.set()


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
    with EngineClient("localhost:8000") as client, pytest.raises(EngineError):
        client.weights()


# --- The other calls --------------------------------------------------------------------------


def test_completion_logprobs(server: Server, client: EngineClient) -> None:
    answer = {
        "weights_version": "v1",
        "results": [{"token_logprobs": [-0.5, -1.0], "logprob": -1.5}],
        "usage": Usage(pairs=1).model_dump(),
    }
    server.answer = lambda request: Answer(chunks=[json.dumps(answer).encode()])
    pair = TokenPair(prompt_token_ids=(1, 2), completion_token_ids=(3, 4))
    found = client.completion_logprobs([pair])
    assert found.results[0].token_logprobs == (-0.5, -1.0)
    assert server.requests[0].path == "/v1/completion_logprobs"
    assert server.requests[0].body == {
        "pairs": [{"prompt_token_ids": [1, 2], "completion_token_ids": [3, 4]}]
    }


def test_weights(server: Server, client: EngineClient, tmp_path: Path) -> None:
    state = {"version": "v2", "path": str(tmp_path), "seconds": 0.5}
    server.answer = lambda request: Answer(chunks=[json.dumps(state).encode()])
    assert client.weights().version == "v2"
    loaded = client.load_weights(tmp_path / "." / "x" / "..", "v2")
    assert loaded.seconds == 0.5
    assert [(r.method, r.path) for r in server.requests] == [
        ("GET", "/v1/weights"),
        ("POST", "/v1/weights"),
    ]
    assert server.requests[1].body == {"path": str(tmp_path), "version": "v2", "kind": None}


def test_refused_weights(server: Server, client: EngineClient, tmp_path: Path) -> None:
    server.answer = lambda request: Answer(400, [error_line(400, "no manifest.json", "path")])
    with pytest.raises(InputError, match=r"no manifest.json") as caught:
        client.load_weights(tmp_path, "v2")
    assert caught.value.field == "path"


def test_generate_asks_for_the_model_once_and_keeps_the_order(
    server: Server, client: EngineClient
) -> None:
    def answer(request: Request) -> Answer:
        if request.path == "/v1/models":
            return Answer(chunks=[b'{"data": [{"id": "the-model"}]}'])
        choices = [{"index": index, "text": f"text {index}"} for index in (1, 0)]
        return Answer(chunks=[json.dumps({"choices": choices}).encode()])

    server.answer = answer
    assert client.generate([], 4) == []
    assert server.requests == []
    for _ in range(2):
        assert client.generate([[1, 2], [3]], 4) == ["text 0", "text 1"]
    assert [request.path for request in server.requests] == [
        "/v1/models",
        "/v1/completions",
        "/v1/completions",
    ]
    assert server.requests[1].body == {
        "model": "the-model",
        "prompt": [[1, 2], [3]],
        "max_tokens": 4,
        "temperature": 0,
    }


@pytest.mark.parametrize("garbage", [b"<html>", b"", b"[]", b"{}", b'"x"', b'{"data": []}'])
def test_garbage_is_an_engine_error(
    server: Server, client: EngineClient, tmp_path: Path, garbage: bytes
) -> None:
    server.answer = lambda request: Answer(chunks=[garbage] if garbage else [])
    pair = TokenPair(prompt_token_ids=(1,), completion_token_ids=(2,))
    calls: list[Callable[[], object]] = [
        client.weights,
        lambda: client.load_weights(tmp_path, "v2"),
        lambda: client.completion_logprobs([pair]),
        lambda: client.generate([[1]], 4),
    ]
    for call in calls:
        with pytest.raises(EngineError, match=r"/v1/\w+: the server's answer is not understood"):
            call()
