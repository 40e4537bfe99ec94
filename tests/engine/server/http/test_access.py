"""No route of the server answers without a key, but those that say so."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from engine.keys import ADMIN_HEADER, Keys, read_keys
from engine.server.http.access import ADMIN_ROUTES, OPEN_PATHS, AccessMiddleware

BOTH = read_keys({"VLLM_API_KEY": "k", "JOSTLE_ADMIN_KEY": "a"})
ONLY_API = read_keys({"VLLM_API_KEY": "k"})
ONLY_ADMIN = read_keys({"JOSTLE_ADMIN_KEY": "a"})

GUARDED = [
    "/v1/models",
    "/v1/weights",
    "/invocations",
    "/tokenize",
    "/metrics",
    "/metrics/",
    "/docs",
    "/openapi.json",
    "/version",
    "/load",
    "/health/../v1/models",
    "//health",
    "/HEALTH",
    "/nowhere",
]


def served(keys: Keys, root: str = "", origins: list[str] | None = None) -> TestClient:
    async def answer(request: Request) -> PlainTextResponse:
        return PlainTextResponse("answered")

    async def chat(socket: WebSocket) -> None:
        await socket.accept()
        await socket.close()

    methods = ["GET", "POST", "OPTIONS", "PUT", "DELETE"]
    app = Starlette(
        routes=[
            WebSocketRoute("/v1/realtime", chat),
            Mount("/metrics", Starlette(routes=[Route("/{rest:path}", answer)])),
            Route("/{rest:path}", answer, methods=methods),
        ]
    )
    if origins is not None:
        app.add_middleware(CORSMiddleware, allow_origins=origins, allow_methods=["*"])
    app.add_middleware(AccessMiddleware, keys=keys)
    return TestClient(app, headers={"Origin": "http://elsewhere"}, root_path=root)


@pytest.mark.parametrize("path", GUARDED)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "PUT", "DELETE"])
def test_every_route_wants_the_key(method: str, path: str) -> None:
    client = served(ONLY_API)
    for header in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic k"}):
        answer = client.request(method, path, headers=header)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    if (method, path) not in ADMIN_ROUTES:
        good = {"Authorization": "Bearer k"}
        assert client.request(method, path, headers=good).status_code in (200, 405)


@pytest.mark.parametrize(
    ("root", "prefix"), [("/", ""), ("/v", ""), ("/v1", "/v1"), ("/behind", "/behind")]
)
def test_a_root_path_opens_nothing(root: str, prefix: str) -> None:
    client = served(BOTH, root)
    for method, path in ADMIN_ROUTES:
        answer = client.request(method, prefix + path, headers={"Authorization": "Bearer k"})
        assert answer.status_code == 403, (root, path)
    assert client.get(f"{prefix}/ready").text == "answered"


@pytest.mark.parametrize("path", sorted(OPEN_PATHS))
def test_the_short_list_needs_none(path: str) -> None:
    assert served(BOTH).get(path).text == "answered"


def test_without_keys_everything_is_open() -> None:
    client = served(Keys())
    assert client.get("/v1/models").status_code == 200
    assert client.post("/v1/weights").status_code == 200


@pytest.mark.parametrize(("method", "path"), sorted(ADMIN_ROUTES))
def test_what_changes_the_server_wants_the_second_key(method: str, path: str) -> None:
    api, admin = {"Authorization": "Bearer k"}, {ADMIN_HEADER: "a"}

    def status(keys: Keys, headers: dict[str, str]) -> int:
        return served(keys).request(method, path, headers=headers).status_code

    assert status(BOTH, api | admin) == 200
    assert status(BOTH, api) == 403
    assert status(BOTH, admin) == 401
    assert status(BOTH, api | {ADMIN_HEADER: "k"}) == 403
    assert status(ONLY_API, api | {ADMIN_HEADER: ""}) == 403, "closed when there is no admin key"
    assert status(ONLY_ADMIN, {}) == 403
    assert status(ONLY_ADMIN, admin) == 200
    assert served(BOTH).request(method, path + "/", headers=api).status_code == 403


def test_reading_which_weights_are_live_wants_the_first_key_only() -> None:
    assert served(BOTH).get("/v1/weights", headers={"Authorization": "Bearer k"}).status_code == 200


@pytest.mark.parametrize("path", GUARDED)
def test_a_browser_may_ask_whether_it_may_ask(path: str) -> None:
    asking = {"Access-Control-Request-Method": "POST"}
    cases: list[tuple[list[str] | None, int]] = [
        (["http://elsewhere"], 200),
        ([], 400),
        (None, 401),
    ]
    for origins, status in cases:
        client = served(ONLY_API, origins=origins)
        answer = client.options(path, headers=asking)
        assert answer.status_code == status, "without CORSMiddleware a route would answer"
        assert answer.text != "answered"
        allowed = answer.headers.get("Access-Control-Allow-Origin")
        assert (allowed == "http://elsewhere") is (status == 200)
        assert client.options(path).status_code == 401
        assert client.post(path, headers=asking).status_code == 401
        assert client.options(path, headers=asking | {"Origin": ""}).text != "answered"


def test_web_sockets_too() -> None:
    client = served(ONLY_API)
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/v1/realtime"):
        pass
    with client.websocket_connect("/v1/realtime", headers={"Authorization": "Bearer k"}):
        pass
