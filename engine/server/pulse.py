"""Whether the engine behind the server lives: asked all the time, and acted upon.

An engine process that dies is vLLM's own to notice: every request in flight then fails with a 503,
and the server ends. One that hangs is noticed by nobody there, and its requests wait for ever. So a
hanging engine is killed, which makes it a dead one.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from engine.errors import EXIT_GAVE_UP

logger = logging.getLogger("vllm.jostle")

_CLEAN_EXITS = (0, -signal.SIGTERM, -signal.SIGINT)


class Process(Protocol):
    """What is needed of a process of the engine."""

    @property
    def exitcode(self) -> int | None:
        """None while it lives; minus the signal's number if one ended it."""

    def kill(self) -> None:
        """Ends it at once."""


def engine_processes(client: Any) -> list[Process]:
    """The engine processes that this API server has started; none if others have."""
    manager = getattr(client.engine_core.resources, "engine_manager", None)
    return list(getattr(manager, "processes", ()))


class Pulse:
    """Asks the engine for a sign of life once a second.

    Args:
        ask: Returns when the engine's main loop has answered.
        processes: The engine's processes.
        silence: Seconds without an answer after which the engine is killed.
        excused: Whether the engine may be silent now, as it is while it loads weights.
        interval: Seconds between two questions.
    """

    def __init__(
        self,
        ask: Callable[[], Any],
        processes: Sequence[Process],
        silence: float,
        excused: Callable[[], bool],
        interval: float = 1.0,
    ) -> None:
        self._ask = ask
        self._processes = processes
        self._silence = silence
        self._excused = excused
        self._interval = interval
        self.last_answer = time.monotonic()

    @property
    def beating(self) -> bool:
        """Whether the engine has answered lately and none of its processes has ended."""
        alive = all(process.exitcode is None for process in self._processes)
        return alive and time.monotonic() - self.last_answer < self._silence

    async def run(self) -> None:
        """Watches until the engine is dead, whoever killed it."""
        while all(process.exitcode is None for process in self._processes):
            question = asyncio.ensure_future(self._ask())
            while not question.done():
                await asyncio.wait([question], timeout=self._interval)
                if question.done() or self._excused():
                    self.last_answer = time.monotonic()
                elif time.monotonic() - self.last_answer >= self._silence:
                    logger.error("the engine has not answered for %.0f s: killed", self._silence)
                    question.cancel()
                    self.kill()
                    return
            if question.exception() is not None:
                return  # it is dead, and vLLM tells everybody who waits for it
            await asyncio.sleep(self._interval)

    def kill(self) -> None:
        """Ends the engine. Requests in flight fail, the server ends, its watcher starts another."""
        for process in self._processes:
            process.kill()


def exit_code(processes: Sequence[Process]) -> int:
    """The code a server ends with: 0 if its engine ended because it was told to."""
    died = any(process.exitcode not in (None, *_CLEAN_EXITS) for process in processes)
    return EXIT_GAVE_UP if died else 0
