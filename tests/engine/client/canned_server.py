"""A real HTTP server that answers, or misbehaves, as each test tells it to."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from engine.client import EngineClient
from engine.protocol.api import PairScore, Reference, TaskScore, Usage
from engine.protocol.score_config import ScoreConfig
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

            do_GET = do_PUT = do_DELETE = do_POST  # noqa: N815

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
