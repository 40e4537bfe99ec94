"""A client that stalls does not keep its place before the engine."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request

from engine.protocol.limits import Limits
from tests.engine.server.http.test_routes import PAIRS, server

LIMITS = Limits(wait_seconds=0.04, drain_seconds=0.03, load_seconds=0.04)
PATH = "/v1/completion_logprobs"


class Client:
    """An ASGI client that sends the given parts of a body, and then nothing.

    Attributes:
        takes: Messages of the answer that it takes; the next one it leaves.
        sent: The answer.
    """

    def __init__(self, *parts: bytes, more: bool = False, takes: int = 1_000) -> None:
        bodies = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
        bodies[-1]["more_body"] = more
        self._bodies: list[dict[str, Any]] = bodies
        self.takes = takes
        self.sent: list[Any] = []

    async def receive(self) -> Any:
        if not self._bodies:
            await asyncio.Event().wait()
        await asyncio.sleep(0.01)
        return self._bodies.pop(0)

    async def send(self, message: Any) -> None:
        if len(self.sent) == self.takes:
            await asyncio.Event().wait()
        self.sent.append(message)

    @property
    def answer(self) -> tuple[int, Any]:
        start, body = self.sent
        return start["status"], json.loads(body["body"])


def asked(app: Callable[..., Coroutine[Any, Any, None]], client: Client, path: str) -> None:
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "headers": [(b"content-type", b"application/json")],
        "query_string": b"",
    }

    async def run() -> None:
        await asyncio.wait_for(app(scope, client.receive, client.send), 5)

    asyncio.run(run())


def test_half_a_body_is_a_408_and_leaves_the_gate() -> None:
    for path in (PATH, "/v1/completions", "/raw"):
        live, app = server(LIMITS)

        @app.post("/raw")
        async def raw(request: Request) -> None:
            await request.json()

        client = Client(b'{"pairs": [', more=True)
        asked(app, client, path)
        status, body = client.answer
        assert (status, body["error"]["code"]) == (408, 408)
        assert body["error"]["message"] == "nothing of the body came for 0 s"
        assert live.gate.readers == 0


def test_a_slow_body_is_taken() -> None:
    _, app = server(LIMITS)
    body = json.dumps(PAIRS).encode()
    client = Client(*(body[place : place + 20] for place in range(0, len(body), 20)))
    asked(app, client, PATH)
    assert client.answer[0] == 200


def test_a_long_answer_to_a_whole_body_is_waited_for() -> None:
    live, app = server(LIMITS)
    live.fake.latency = lambda: 20_000  # rounds of the event loop, 0.1 s or more
    for stream in (False, True):
        client = Client(json.dumps(PAIRS | {"stream": stream}).encode())
        begun = time.monotonic()
        asked(app, client, PATH)
        assert time.monotonic() - begun > LIMITS.load_seconds, "longer than any limit"
        assert client.sent[0]["status"] == 200
        assert not client.sent[-1].get("more_body", False)


def test_an_answer_that_nobody_takes_is_broken_off() -> None:
    live, app = server(LIMITS)
    live.fake.held = lambda name: name == "pairs[2]"
    client = Client(json.dumps(PAIRS | {"stream": True}).encode(), takes=2)
    asked(app, client, PATH)
    assert len(client.sent) == 2
    assert client.sent[-1]["more_body"]
    assert live.gate.readers == 0
    assert live.fake.pending == 0
    assert live.fake.cancelled == ["pairs[2]"]
