"""Answers, those of errors in vLLM's own shape: {"error": {message, type, param, code}}."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from engine.protocol.limits import Limits
from engine.questions.children import end_all
from engine.server.reload.live_weights import LiveWeights

_KINDS = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    405: "MethodNotAllowedError",
    408: "RequestTimeoutError",
    413: "RequestTooLargeError",
    500: "EngineError",
    503: "ServiceUnavailableError",
}

RETRY_AFTER_SECONDS = 5
"""What a 503 asks a client to wait."""


KEEP_ALIVE_SECONDS = 30.0
"""How long a stream is silent at most."""


async def kept_alive(
    lines: AsyncGenerator[str, None], seconds: float = KEEP_ALIVE_SECONDS
) -> AsyncGenerator[str, None]:
    """The lines of a stream, and an empty one where none has come for a while.

    Clients and proxies take a silent connection for a dead one, and a large task is silent for as
    long as it takes.
    """
    coming: asyncio.Future[str] | None = None
    async with aclosing(lines):
        try:
            while True:
                coming = coming or asyncio.ensure_future(anext(lines))
                if not (await asyncio.wait({coming}, timeout=seconds))[0]:
                    yield "\n"
                    continue
                done, coming = coming, None
                try:
                    line = done.result()
                except StopAsyncIteration:
                    return
                yield line
        finally:
            if coming is not None:
                await end_all([coming])


def error_body(
    status: int, message: str, *, param: str | None = None, record: str | None = None
) -> dict[str, Any]:
    """The body of an error.

    Args:
        message: What is wrong; names record and field as well.
        param: The field at fault.
        record: The record at fault: a task id, or `pairs[3]`. vLLM has no such key.
    """
    kind = _KINDS.get(status, "EngineError")
    error = {"message": message, "type": kind, "param": param, "code": int(status)}
    return {"error": error | ({} if record is None else {"record": record})}


def error_response(
    status: int,
    message: str,
    *,
    param: str | None = None,
    record: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """An error answer; a 503 says when to come back."""
    own = {"Retry-After": str(RETRY_AFTER_SECONDS)} if status == 503 else {}
    return JSONResponse(
        error_body(status, message, param=param, record=record),
        status_code=status,
        headers={**own, **(headers or {})},
    )


def json_response(model: BaseModel, *, exclude_none: bool = False) -> Response:
    """Dumps once; FastAPI would validate and dump the large answer again."""
    return Response(model.model_dump_json(exclude_none=exclude_none), media_type="application/json")


def live_of(request: Request) -> LiveWeights:
    """The weights of the server that got the request."""
    live: LiveWeights = request.app.state.jostle_weights
    return live


def limits_of(request: Request) -> Limits:
    """Its limits."""
    limits: Limits = request.app.state.jostle_limits
    return limits
