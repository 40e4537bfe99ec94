"""Where a server is may be said in several ways; what is no address is said to be none."""

from __future__ import annotations

import pytest

from engine.client import EngineClient
from engine.client.async_client import AsyncEngineClient
from engine.client.wire import server_address
from engine.errors import InputError


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000"),
        ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000"),
        (" http://127.0.0.1:8000//v1// ", "http://127.0.0.1:8000"),
        ("https://host/team/engine/v1", "https://host/team/engine"),
        ("https://host/team", "https://host/team"),
        ("http://[::1]:8000/v1", "http://[::1]:8000"),
        ("http://user:word@host:1/v1#part", "http://user:word@host:1"),
        ("HTTP://Host:8000/v1", "http://host:8000"),
    ],
)
def test_addresses(given: str, meant: str) -> None:
    assert server_address(given) == meant


@pytest.mark.parametrize(
    "given",
    ["", "127.0.0.1:8000", "localhost:8000", "localhost", "ftp://host", "http://", "http://a:b",
     "http://host?x=1", "http://host:99999999", "file:///etc/passwd", "http://a b"],
)  # fmt: skip
@pytest.mark.parametrize("kind", [EngineClient, AsyncEngineClient])
def test_what_is_no_address(given: str, kind: type[EngineClient] | type[AsyncEngineClient]) -> None:
    with pytest.raises(InputError, match=r"field 'url': .* is no address"):
        kind(given)
