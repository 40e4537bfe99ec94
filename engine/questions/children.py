"""Tasks of the event loop that end together, or with what they were started for."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Sequence
from typing import Any, TypeVar

_T = TypeVar("_T")


async def together(running: Sequence[asyncio.Task[_T]]) -> list[_T]:
    """The results of all. When one fails, or the wait is cancelled, the others end as well."""
    try:
        return await asyncio.gather(*running)
    finally:
        await end_all(running)


async def end_all(running: Collection[asyncio.Future[Any]]) -> None:
    """Cancels all that still run, and waits for them."""
    for each in running:
        each.cancel()
    await asyncio.gather(*running, return_exceptions=True)


class Children:
    """What runs on behalf of one scoring, and ends with it."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Starts one."""
        child = asyncio.create_task(work)
        self._running.add(child)
        child.add_done_callback(self._running.discard)
        # Whoever awaits the child sees its error; one that nobody awaits any more is no news.
        child.add_done_callback(lambda done: done.cancelled() or done.exception())
        return child

    async def end(self) -> None:
        """Cancels all that still run, and waits for them."""
        await end_all(list(self._running))
