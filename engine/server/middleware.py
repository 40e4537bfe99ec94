"""Holds every request that computes something back while weights are being changed."""

from __future__ import annotations

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.gate import GateTimeoutError
from engine.server.weights import LiveWeights

WEIGHTS_PATH = "/v1/weights"


class GateMiddleware:
    """Every POST but the one that changes weights is a reader of the gate, vLLM's own included.

    A request stays inside until its last byte is sent, so no answer mixes two sets of weights.

    Args:
        app: The application behind.
        wait: Seconds a request waits for a load to end before it gets a 503.
    """

    def __init__(self, app: ASGIApp, wait: float = 120.0) -> None:
        self.app = app
        self._wait = wait

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, inside the gate where it needs to be."""
        gated = scope["type"] == "http" and scope["method"] == "POST"
        path = scope["path"].removeprefix(scope.get("root_path", "")) if gated else ""
        if not gated or path == WEIGHTS_PATH:
            await self.app(scope, receive, send)
            return
        live: LiveWeights = scope["app"].state.jostle_weights
        try:
            async with live.gate.reading(self._wait):
                if live.usable:
                    await self.app(scope, receive, send)
                    return
        except GateTimeoutError:
            await _unavailable("weights are being loaded; try again")(scope, receive, send)
            return
        await _unavailable("a load of weights failed half way; the engine must be restarted")(
            scope, receive, send
        )


def _unavailable(message: str) -> JSONResponse:
    error = {"message": message, "type": "ServiceUnavailableError", "param": None, "code": 503}
    return JSONResponse({"error": error}, status_code=503, headers={"Retry-After": "5"})
