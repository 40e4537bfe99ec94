"""A readers-writer gate: many requests score at once, a reload is alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from engine.errors import EngineError

_Given = TypeVar("_Given")


class GateTimeoutError(RuntimeError):
    """The gate did not open in time."""


class Gate:
    """Lets any number of readers in, or one writer.

    A waiting writer holds new readers back, so a reload is not starved by a steady stream of
    requests. vLLM's own pause does not serve here: it drains running sequences, and a request that
    is one half scored before and one half after a load would mix two sets of weights.
    """

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._readers = 0
        self._writers = 0
        self._writing = False
        self._alone = asyncio.Lock()

    @property
    def readers(self) -> int:
        """Readers inside."""
        return self._readers

    @asynccontextmanager
    async def reading(self, timeout: float) -> AsyncIterator[None]:
        """Inside, no writer is.

        Raises:
            GateTimeoutError: If a writer is inside or waiting for longer than `timeout` seconds.
        """
        await self._enter(lambda: not self._writing and not self._writers, timeout)
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1
            await self._notify()

    @asynccontextmanager
    async def writing(self, timeout: float) -> AsyncIterator[None]:
        """Inside, nobody else is.

        Raises:
            GateTimeoutError: If others stay inside for longer than `timeout` seconds.
        """
        self._writers += 1
        try:
            await self._enter(lambda: not self._writing and not self._readers, timeout)
            self._writing = True
        finally:
            self._writers -= 1
            await self._notify()
        try:
            yield
        finally:
            self._writing = False
            await self._notify()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Inside, nobody else is in `alone`; readers come and go."""
        async with self._alone:
            yield

    async def _enter(self, free: Callable[[], bool], timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout), self._changed:
                await self._changed.wait_for(free)
        except TimeoutError:
            raise GateTimeoutError(f"waited {timeout:.0f} s") from None

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


async def to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Awaits work that goes on when the one who waits is cancelled; then the cancellation."""
    running = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        running.exception()  # told to the log only: nobody is there to hear it
        raise cancelled
    running.result()


async def in_time(
    step: Coroutine[Any, Any, _Given], what: str, seconds: float, dead: Callable[[], bool]
) -> _Given:
    """What a step of an engine gives.

    Args:
        what: For the error.
        dead: Whether vLLM has found the engine dead: a call that is under way then never ends.

    Raises:
        EngineError: If it takes longer than so many seconds, or the engine dies.
    """
    running = asyncio.ensure_future(step)
    deadline = time.monotonic() + seconds
    while not running.done():
        left = max(0.0, deadline - time.monotonic())
        await asyncio.wait([running], timeout=min(0.2, left))
        if not running.done() and (dead() or time.monotonic() >= deadline):
            running.cancel()
            late = f"{what} took over {seconds:.0f} s"
            raise EngineError("the engine died" if dead() else late)
    return running.result()
