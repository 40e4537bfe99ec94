"""Puts our routes, and what every request passes before any route, on vLLM's application."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from engine.keys import Keys
from engine.protocol.limits import Limits
from engine.server.http import completion_route, routes
from engine.server.http.access import AccessMiddleware
from engine.server.http.answers import error_response
from engine.server.http.middleware import GateMiddleware, LimitMiddleware
from engine.server.http.observe import ObserveMiddleware


def attach(app: FastAPI, keys: Keys, limits: Limits) -> None:
    """Adds routes, middleware and one error shape.

    vLLM gives its shape to FastAPI's exceptions only; those of Starlette below it (no such route,
    a body that is no text) would look different.
    """
    app.include_router(routes.router)
    app.include_router(completion_route.router)
    app.add_exception_handler(HTTPException, _http_error)
    # What is added last is passed first.
    app.add_middleware(GateMiddleware, wait=limits.wait_seconds)
    app.add_middleware(LimitMiddleware, limits=limits)
    app.add_middleware(ObserveMiddleware)
    app.add_middleware(AccessMiddleware, keys=keys)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return error_response(error.status_code, str(error.detail), headers=error.headers)
