"""A connection to one server: what is tried again, how long it is waited for, and streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import httpx

from engine.client import wire
from engine.client.line_stream import LineBuffer, Streamed
from engine.client.sampling import SAMPLE_PATH
from engine.client.sendable import as_json
from engine.errors import UnavailableError
from engine.tasks import Record

if TYPE_CHECKING:
    import ssl

_CONNECT_S = 10.0
_ALL_AT_ONCE = frozenset({SAMPLE_PATH, wire.COMPLETIONS_PATH})
"""Routes that, unless they stream, send nothing before all is done, however long that takes."""

_R = TypeVar("_R", bound=Record)
_T = TypeVar("_T")


class Connection:
    """Sends requests to one server, for asyncio; an async context manager.

    Args: see `engine.client.async_client.AsyncEngineClient`.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        timeout_s: float,
        *,
        admin_key: str | None,
        patience_s: float,
    ) -> None:
        address = wire.server_address(base_url)
        verify = wire.authorities(address)
        self._http = httpx.AsyncClient(
            base_url=address,
            headers=wire.headers(api_key, admin_key),
            timeout=httpx.Timeout(timeout_s, connect=_CONNECT_S),
            trust_env=False,
            transport=self._transport(verify),
        )
        self._unhurried = httpx.Timeout(timeout_s, connect=_CONNECT_S, read=None)
        self._patience_s = patience_s
        self._met = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    def move(self, base_url: str) -> None:
        """Asks another server from now on; `InputError` if `base_url` is no address."""
        self._http.base_url = wire.server_address(base_url)
        self._met = False

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    # What waits, and so is another thing for callers that block.

    def _transport(self, verify: ssl.SSLContext | bool) -> httpx.AsyncBaseTransport:
        return httpx.AsyncHTTPTransport(
            verify,
            # Callers bound what is under way; a queue here would be one that nobody sees.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=100),
            trust_env=False,
            socket_options=wire.KEEP_ALIVE,
        )

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _aside(self, work: Callable[[], _T]) -> _T:
        return await asyncio.to_thread(work)

    async def _together(self, works: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
        """What they return; the first error, when all of them have ended."""
        found = await asyncio.gather(*works, return_exceptions=True)
        for one in found:
            if isinstance(one, BaseException):
                raise one
        return cast("list[_T]", found)

    async def _all(self, batch: Streamed[_T], patience: wire.Patience) -> AsyncGenerator[_T, None]:
        """All answers to a request, which is made again for what is missing."""
        while not batch.complete:
            try:
                async with aclosing(self._stream(batch)) as found:
                    async for answer in found:
                        self._met = True
                        patience.progress()
                        yield answer
            except UnavailableError as error:
                await self._pause(patience, error)

    async def _stream(self, batch: Streamed[_T]) -> AsyncGenerator[_T, None]:
        """The answers of one request; returns after right totals."""
        buffer = LineBuffer()
        try:
            async with self._http.stream(
                "POST", batch.path, content=batch.request(), headers=wire.JSON
            ) as response:
                if response.status_code != httpx.codes.OK:
                    await response.aread()
                    wire.decoded(response, batch.path)
                async for chunk in response.aiter_bytes():
                    for line in buffer.feed(chunk):
                        if not line.strip():  # it says that there is work on it
                            continue
                        answer = batch.take(line)
                        if answer is None:
                            return
                        yield answer
        except httpx.HTTPError as error:
            raise wire.lost(error, "scoring broke off") from error
        raise batch.broken_off()

    def _patience(self) -> wire.Patience:
        # One per call: calls run side by side, and the progress of one is not that of another.
        return wire.Patience(self._patience_s, self._met)

    async def _pause(self, patience: wire.Patience, error: UnavailableError) -> None:
        """Wait for the next try; raises the error when there is to be none."""
        try:
            seconds = patience.pause(error)
        except UnavailableError:
            self._met = False
            raise
        await self._sleep(seconds)

    async def _ask(self, method: str, path: str, body: Record | None, kind: type[_R]) -> _R:
        answer = await self._call(method, path, as_json(body) if body else None)
        return wire.parsed(answer, kind, path)

    async def _call(self, method: str, path: str, content: str | None = None) -> Any:
        patience = self._patience()
        while True:
            try:
                answer = await self._try(method, path, content)
            except UnavailableError as error:
                await self._pause(patience, error)
            else:
                self._met = True
                return answer

    async def _try(self, method: str, path: str, content: str | None) -> Any:
        # A load of weights may have been done.
        again = path != "/v1/weights" or method == "GET"
        unhurried = not again or path in _ALL_AT_ONCE
        timeout = self._unhurried if unhurried else self._http.timeout
        try:
            response = await self._http.request(
                method, path, content=content, headers=wire.JSON, timeout=timeout
            )
        except httpx.HTTPError as error:
            url = str(self._http.base_url).rstrip("/") + path
            raise wire.lost(error, f"{method} {url}", again=again) from error
        return wire.decoded(response, path, again=again)
