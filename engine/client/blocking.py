"""Runs a coroutine that never waits, for those who have no event loop, or one that is not ours.

What is written once for asyncio serves callers that block: over a transport that blocks, no `await`
of it ever waits, so a single step of the coroutine is all of it. There is no thread and no loop,
and a keyboard interrupt or the end of a generator unwinds it as it would unwind any function.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, TypeVar, cast

import httpx

from engine.client.wire import KEEP_ALIVE

if TYPE_CHECKING:
    import ssl

_T = TypeVar("_T")


def run_now(work: Coroutine[Any, Any, _T]) -> _T:
    """What a coroutine returns that never waits."""
    hooks = sys.get_asyncgen_hooks()
    # A loop that runs in this thread, as in a notebook, must not take over our generators: it
    # would close them when it ends.
    sys.set_asyncgen_hooks(None, None)
    try:
        work.send(None)
    except StopIteration as done:
        return cast(_T, done.value)
    finally:
        sys.set_asyncgen_hooks(*hooks)
    raise AssertionError("a coroutine that must never wait does")


def iterate_now(items: AsyncGenerator[_T, None]) -> Iterator[_T]:
    """The items of a generator that never waits; it is closed with this one."""
    try:
        while True:
            try:
                item = run_now(_next(items))
            except StopAsyncIteration:
                return
            yield item
    finally:
        run_now(items.aclose())


async def _next(items: AsyncGenerator[_T, None]) -> _T:
    # A loop takes over a generator where this is called, not where it is awaited.
    return await anext(items)


class BlockingTransport(httpx.AsyncBaseTransport):
    """httpx's blocking transport in the form of the other.

    Args:
        verify: See `engine.client.wire.authorities`.
    """

    def __init__(self, verify: ssl.SSLContext | bool = True) -> None:
        self._http = httpx.HTTPTransport(verify, trust_env=False, socket_options=KEEP_ALIVE)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Returns when the headers of the answer are there."""
        answer = self._http.handle_request(request)
        assert isinstance(answer.stream, httpx.SyncByteStream)
        return httpx.Response(
            answer.status_code,
            headers=answer.headers,
            stream=_Chunks(answer.stream),
            extensions=answer.extensions,
        )

    async def aclose(self) -> None:
        """Closes the connections."""
        self._http.close()


class _Chunks(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._stream:
            yield chunk

    async def aclose(self) -> None:
        self._stream.close()
