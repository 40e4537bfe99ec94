"""What every request passes before it reaches a route: limits, and the gate of the weights."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from http import HTTPStatus

from starlette._utils import get_route_path
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.protocol.limits import Limits
from engine.server.http.answers import error_response
from engine.server.http.observe import request_id
from engine.server.reload.gate import GateTimeoutError
from engine.server.reload.live_weights import LiveWeights

logger = logging.getLogger("vllm.jostle")

WEIGHTS_PATH, RESPONSES_PATH = "/v1/weights", "/v1/responses"
SCORING_PATHS = frozenset({"/v1/prompt_uncertainty", "/v1/completion_logprobs"})

RELEASED = "the weights are released; PUT /v1/weights brings them back"
_UNUSABLE = "a load of weights failed half way; the engine is being restarted"


class GateMiddleware:
    """Every POST is a reader of the gate, vLLM's own included, but for the one that changes weights
    and those that cancel what a load may be waiting for.

    A request stays inside until its last byte is sent, and until what it has left to run in the
    background has ended, so no answer mixes two sets of weights.
    /health is 503 when the engine cannot score any more, so that no balancer sends requests here.

    Args:
        wait: Seconds a request waits for a load to end before it gets a 503.
    """

    def __init__(self, app: ASGIApp, wait: float = 60.0) -> None:
        self.app = app
        self._wait = wait

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, inside the gate where it needs to be."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = get_route_path(scope)
        if path == "/health" and not _live(scope).usable:
            await error_response(503, _UNUSABLE)(scope, receive, send)
        elif scope["method"] != "POST" or path == WEIGHTS_PATH or _cancels(path):
            await self.app(scope, receive, send)
        else:
            await self._gated(scope, receive, send)

    async def _gated(self, scope: Scope, receive: Receive, send: Send) -> None:
        live = _live(scope)
        try:
            async with live.gate.reading(self._wait):
                if live.fit:
                    before = _in_background(scope)
                    await self.app(scope, receive, send)
                    left = _in_background(scope) - before
                    if left and get_route_path(scope) == RESPONSES_PATH:
                        await asyncio.wait(left)
                    return
        except GateTimeoutError:
            answer = error_response(
                503, f"weights have been loading for {self._wait:.0f} s; try again"
            )
            await answer(scope, receive, send)
            return
        reason = RELEASED if live.usable and live.released else _UNUSABLE
        await error_response(503, reason)(scope, receive, send)


class LimitMiddleware:
    """Refuses bodies that are too large, and scoring requests beyond what is taken at once.

    A refused request costs no memory: its body is not read. A client that stalls is given up.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app = app
        self._limits = limits
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers 408, 413 or 503."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self.app(scope, receive, send)
            return
        counted = scope["method"] == "POST" and get_route_path(scope) in SCORING_PATHS
        if counted and self._inside >= self._limits.requests:
            busy = f"{self._inside} scoring requests are being served, the limit; try again"
            await error_response(503, busy)(scope, receive, send)
            return
        self._inside += counted
        try:
            await self._measured(scope, receive, send)
        finally:
            self._inside -= counted

    async def _measured(self, scope: Scope, receive: Receive, send: Send) -> None:
        limit = self._limits.body_bytes
        declared = Headers(scope=scope).get("Content-Length", "")
        if declared.isdecimal() and len(declared) < 20 and int(declared) > limit:
            await _too_large(limit)(scope, receive, send)
            return
        watched = _Watched(scope["path"], receive, send, self._limits)
        try:
            await self.app(scope, watched.receive, watched.send)
        except ClientDisconnect:  # of a route that reads the body itself
            if not watched.refusal:
                raise
        if watched.refusal:
            await watched.refusal(scope, receive, send)


class _Watched:
    """The messages of one request, counted and timed: a load waits for all that are in the gate.

    A body that is too large or does not come, and an answer that nobody takes, are to the route a
    client that has gone away: it gives up, whatever it is.

    Attributes:
        refusal: What to answer in the place of what the route says.
    """

    def __init__(self, path: str, receive: Receive, send: Send, limits: Limits) -> None:
        self._path = path
        self.refusal: JSONResponse | None = None
        self._receive, self._send, self._limits = receive, send, limits
        self._received = 0
        self._whole = self._started = self._gone = False
        self._waiting = asyncio.timeout(None)  # of the latest `receive`

    async def receive(self) -> Message:
        """What comes next: a part of the body, or that the client has gone."""
        limits = self._limits
        while not self._gone:
            # Behind a body nothing comes but the end of the connection, which may take hours.
            seconds = None if self._whole else limits.wait_seconds
            try:
                async with asyncio.timeout(seconds) as self._waiting:
                    message = await self._receive()
            except TimeoutError:
                if not self._gone:
                    self._refuse(_too_slow(limits.wait_seconds))
                continue
            self._whole = not message.get("more_body", False)
            self._received += len(message.get("body", b""))
            if self._received <= limits.body_bytes:
                return message
            self._refuse(_too_large(limits.body_bytes))
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Sends a message, if anybody takes it."""
        if self._gone:
            return
        seconds = self._limits.load_seconds
        try:
            async with asyncio.timeout(seconds):
                self._started = True
                await self._send(message)
        except TimeoutError:
            told = "%s of %s broke off: its client took nothing of the answer for %.0f s"
            logger.warning(told, request_id.get(), self._path, seconds)
            self._gone = True
            with contextlib.suppress(RuntimeError):  # it is over: the next one will tell
                self._waiting.reschedule(0)

    def _refuse(self, refusal: JSONResponse) -> None:
        self.refusal, self._gone = None if self._started else refusal, True


def _too_slow(seconds: float) -> JSONResponse:
    return error_response(
        HTTPStatus.REQUEST_TIMEOUT,
        f"nothing of the body came for {seconds:.0f} s",
        headers={"Connection": "close"},
    )


def _too_large(limit: int) -> JSONResponse:
    return error_response(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"the body exceeds the server's limit of {limit:,} bytes (--limit body_bytes=N)",
        headers={"Connection": "close"},
    )


def _cancels(path: str) -> bool:
    return path.startswith(f"{RESPONSES_PATH}/") and path.endswith("/cancel")


def _in_background(scope: Scope) -> set[asyncio.Task[None]]:
    """Responses that vLLM goes on with after it has answered (`background` of /v1/responses)."""
    responses = getattr(scope["app"].state, "openai_serving_responses", None)
    return set(responses.background_tasks.values()) if responses else set()


def _live(scope: Scope) -> LiveWeights:
    live: LiveWeights = scope["app"].state.jostle_weights
    return live
