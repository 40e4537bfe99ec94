"""What every request passes before it reaches a route: limits, and the gate of the weights."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from starlette._utils import get_route_path
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.protocol.limits import Limits
from engine.server.http.answers import error_response
from engine.server.reload.gate import GateTimeoutError
from engine.server.reload.live_weights import LiveWeights

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

    A refused request costs no memory: its body is not read.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app = app
        self._limits = limits
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers 413 or 503."""
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
        received, refused = 0, False

        async def counting() -> Message:
            nonlocal received, refused
            message = await receive()
            received += len(message.get("body", b""))
            if received <= limit:
                return message
            refused = True
            return {"type": "http.disconnect"}  # the route gives up reading, whatever it is

        async def sending(message: Message) -> None:
            if not refused:
                await send(message)

        await self.app(scope, counting, sending)
        if refused:
            await _too_large(limit)(scope, receive, send)


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
