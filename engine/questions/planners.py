"""The threads that render and encode prompts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

_T = TypeVar("_T")

PLANNERS = 4
"""How many there are, for all requests together."""

_planners = ThreadPoolExecutor(PLANNERS, thread_name_prefix="planner")


async def in_planner(function: Callable[..., _T], *arguments: Any) -> _T:
    """What the function returns, called in one of the planners; if not begun, cancelled with us."""
    return await asyncio.get_running_loop().run_in_executor(_planners, function, *arguments)
