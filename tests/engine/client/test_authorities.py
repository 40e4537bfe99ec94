"""A server with a certificate of one's own authority is reached once the environment names it."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.client import AsyncEngineClient, EngineClient
from engine.client.chat_client import ChatClient
from engine.errors import EngineError, InputError
from tests.engine.client.canned_server import Answer, Server
from tests.engine.weights.served import live


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """A certificate of 127.0.0.1 that vouches for itself; its key is beside it."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    file = tmp_path / "own.pem"
    made = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=own "
        "-addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out own.pem"
    )
    subprocess.run(made.split(), check=True, capture_output=True, cwd=tmp_path)
    return file


@pytest.fixture
def url(server: Server, authority: Path) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority, authority.with_name("key.pem"))
    server._http.socket = context.wrap_socket(server._http.socket, server_side=True)
    server.answer = lambda request: Answer(
        chunks=[
            b'{"data": [{"id": "v1"}]}'
            if request.path == "/v1/models"
            else live("v1").model_dump_json().encode()
        ]
    )
    return server.url.replace("http:", "https:")


def blocking(url: str) -> str:
    with EngineClient(url, timeout_s=600) as client:
        return client.weights().version


def in_a_loop(url: str) -> str:
    async def run() -> str:
        async with AsyncEngineClient(url, timeout_s=600) as client:
            return (await client.weights()).version

    return asyncio.run(run())


def chatting(url: str) -> str:
    with ChatClient(f"{url}/v1", proxies=False) as client:
        return client.model


@pytest.mark.parametrize("ask", [blocking, in_a_loop, chatting])
def test_authorities_of_the_environment(
    ask: Callable[[str], str], url: str, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.client.chat_client._FIRST_PAUSE_S", 0.0)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with pytest.raises(EngineError, match="CERTIFICATE_VERIFY_FAILED"):
        ask(url)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    assert ask(url) == "v1"
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.with_name("none.pem")))
    with pytest.raises(InputError, match=r"none\.pem, field 'SSL_CERT_FILE': holds no certificate"):
        ask(url)
    with pytest.raises(EngineError):
        ask("http://127.0.0.1:1")  # whose server needs none
