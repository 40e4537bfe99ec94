"""Who may use which route. One place, before every route of the server, vLLM's own included."""

from __future__ import annotations

from starlette._utils import get_route_path
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.keys import ADMIN_HEADER, ADMIN_KEY_VARIABLE, Keys
from engine.server.http.answers import error_response

OPEN_PATHS = frozenset({"/health", "/ping", "/ready"})
"""Routes that need no key: they tell whether the server works, and nothing else."""

ADMIN_ROUTES = frozenset(
    {
        ("POST", "/v1/weights"),
        ("PUT", "/v1/weights"),
        ("DELETE", "/v1/weights"),
        ("POST", "/v1/load_lora_adapter"),
        ("POST", "/v1/unload_lora_adapter"),
        ("POST", "/inference/v1/abort_requests"),
        ("POST", "/scale_elastic_ep"),
        ("POST", "/fault_tolerance/apply"),
        ("POST", "/start_profile"),
        ("POST", "/stop_profile"),
    }
)
"""Routes that change the server or the work of others: they need the admin key on top."""


class AccessMiddleware:
    """Asks for the API key on every route but `OPEN_PATHS`, and for the admin key on some.

    vLLM's own check covers /v1, /v2 and /inference only, so that /invocations, /tokenize or
    /metrics answer anybody. Without any key everything is open, which `engine.keys.check_exposure`
    allows on loopback only. Once there is an API key, the admin routes want an admin key; if none
    was configured they are closed.

    What a browser asks before a request of another origin's (`--allowed-origins`) never has a key.
    It is let through to vLLM's `CORSMiddleware`, which answers it before any route.
    """

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self.app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": refusal[1]})
        else:
            status, message = refusal
            headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
            await error_response(status, message, headers=headers)(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        path = get_route_path(scope).rstrip("/") or "/"
        headers = Headers(scope=scope)
        if path in OPEN_PATHS or _is_preflight(scope, headers):
            return None
        if self._keys.api:
            scheme, _, key = headers.get("Authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not self._keys.opens(key):
                return 401, "an API key is needed: Authorization: Bearer KEY"
        if (scope.get("method"), path) not in ADMIN_ROUTES:
            return None
        if self._keys.admin is None:
            if not self._keys.api:
                return None
            return 403, f"closed: the server was started without {ADMIN_KEY_VARIABLE}"
        if not self._keys.opens_admin(headers.get(ADMIN_HEADER, "")):
            return 403, f"the admin key is needed in the header {ADMIN_HEADER}"
        return None


def _is_preflight(scope: Scope, headers: Headers) -> bool:
    """Whether `CORSMiddleware` answers it: by what it goes by, and if it is there."""
    return (
        scope.get("method") == "OPTIONS"
        and "Origin" in headers
        and "Access-Control-Request-Method" in headers
        and any(each.cls is CORSMiddleware for each in scope["app"].user_middleware)
    )
