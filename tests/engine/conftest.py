"""Fixtures of the engine's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.client import EngineClient
from tests.engine.client.canned_server import Server


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture
def client(server: Server) -> Iterator[EngineClient]:
    with EngineClient(server.url, timeout_s=600, patience_s=0) as running:
        yield running
