"""The threads that render and encode prompts."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from engine.questions.children import end_all

_T = TypeVar("_T")
_Item = TypeVar("_Item")

PLANNERS = 4
"""How many there are, for all requests together."""

_planners = ThreadPoolExecutor(PLANNERS, thread_name_prefix="planner")


async def in_planner(function: Callable[..., _T], *arguments: Any) -> _T:
    """What the function returns, called in one of the planners; if not begun, cancelled with us."""
    return await asyncio.get_running_loop().run_in_executor(_planners, function, *arguments)


async def in_planners(
    function: Callable[[_Item], _T], items: Iterable[_Item]
) -> AsyncGenerator[tuple[_Item, asyncio.Task[_T]], None]:
    """Each item, in order, and what the function is to return of it, in all planners at once.

    Closing the generator cancels what is not awaited yet.
    """
    left = iter(items)
    ahead: deque[tuple[_Item, asyncio.Task[_T]]] = deque()
    try:
        while True:
            while len(ahead) < PLANNERS and (item := next(left, None)) is not None:
                ahead.append((item, asyncio.create_task(in_planner(function, item))))
            if not ahead:
                return
            yield ahead.popleft()
    finally:
        await end_all([planning for _, planning in ahead])
