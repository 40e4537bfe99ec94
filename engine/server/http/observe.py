"""Requests as a running server tells of them: ids in its log, counts and times on /metrics."""

from __future__ import annotations

import contextvars
import logging
import re
import time
import uuid

from prometheus_client import Counter, Histogram
from starlette._utils import get_route_path
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("vllm.jostle")

OWN_PATHS = frozenset({"/v1/prompt_uncertainty", "/v1/completion_logprobs", "/v1/weights"})
"""The routes that are counted here; vLLM counts its own."""

REQUESTS = Counter("jostle:requests", "Requests answered.", ["route", "status"])
SECONDS = Histogram(
    "jostle:request_seconds",
    "Time from the arrival of a request to the last byte of its answer.",
    ["route"],
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600, 1800),
)

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="-")
"""Id of the request being served, for log lines."""

_PLAIN_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class ObserveMiddleware:
    """Counts and times requests to our routes and gives each an id, logged and sent back.

    A client's own `X-Request-Id` is kept when it is short and plain, so that it cannot forge lines.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, and writes down how it ended."""
        if scope["type"] != "http" or get_route_path(scope) not in OWN_PATHS:
            await self.app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in ("GET", "POST") else "other"
        route = f"{method} {get_route_path(scope)}"
        given = Headers(scope=scope).get("X-Request-Id", "")
        name = given if _PLAIN_ID.fullmatch(given) else uuid.uuid4().hex
        request_id.set(name)
        started, status = time.monotonic(), 0

        async def noticing(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(raw=message["headers"])
                if "X-Request-Id" not in headers:
                    headers["X-Request-Id"] = name
            await send(message)

        try:
            await self.app(scope, receive, noticing)
        finally:
            seconds = time.monotonic() - started
            # 499: the client went away before there was an answer.
            REQUESTS.labels(route, str(status or 499)).inc()
            SECONDS.labels(route).observe(seconds)
            logger.info("%s %s: %s after %.3f s", name, route, status or "gone", seconds)
