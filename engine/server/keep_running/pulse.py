"""Whether the engine behind the server lives: asked all the time, and acted upon.

An engine process that dies is vLLM's own to notice: every request in flight then fails with a 503,
and the server ends. One that hangs is noticed by nobody there, and its requests wait for ever. So a
hanging engine is killed, which makes it a dead one.

An engine answers between two steps only, and a step of a large model on a small machine takes
longer than a hanging engine may go unnoticed. So one that uses the CPU counts as busy, for a while,
and so does one that would if others left it a core.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from engine.errors import EXIT_GAVE_UP
from engine.process.lifetime import work_seconds

logger = logging.getLogger("vllm.jostle")

_CLEAN_EXITS = (0, -signal.SIGTERM, -signal.SIGINT)


_BUSY_SHARE = 0.1  # of a core: more than what waiting takes, less than a crowded machine leaves
_LONGEST_STEP = 15  # times the silence that is allowed otherwise


class Process(Protocol):
    """What is needed of a process of the engine."""

    @property
    def pid(self) -> int | None:
        """Its id."""

    @property
    def exitcode(self) -> int | None:
        """None while it lives; minus the signal's number if one ended it."""

    def kill(self) -> None:
        """Ends it at once."""


def engine_processes(client: Any) -> list[Process]:
    """The engine processes that this API server has started; none if others have."""
    manager = getattr(client.engine_core.resources, "engine_manager", None)
    return list(getattr(manager, "processes", ()))


class WholeServer:
    """Stands for an engine that this process has not started, but its parent.

    Attributes:
        pid: The parent; the work of its children is the engine's, for the most part.
        exitcode: None, as long as anybody can ask: this process ends with its parent.
    """

    exitcode: int | None = None

    def __init__(self) -> None:
        self.pid: int | None = os.getppid()

    def kill(self) -> None:
        """Ends this process; the parent then ends the engine and all others, and fails."""
        os._exit(EXIT_GAVE_UP)


class Pulse:
    """Asks the engine for a sign of life once a second.

    Args:
        ask: Returns when the engine's main loop has answered.
        silence: Seconds without an answer or any work after which the engine is killed; without an
            answer, but at work, it is 15 times as long.
        excused: Whether the engine may be silent now, as it is while it loads weights.
        interval: Seconds between two questions.
        dead: Whether vLLM has found the engine dead. A rank that is killed ends it long before its
            own process, which waits for the other ranks to end.
    """

    def __init__(
        self,
        ask: Callable[[], Any],
        processes: Sequence[Process],
        silence: float,
        excused: Callable[[], bool],
        interval: float = 1.0,
        dead: Callable[[], bool] = lambda: False,
    ) -> None:
        self._ask = ask
        self._dead = dead
        self._died = False
        self._processes = processes
        self._silence = silence
        self._excused = excused
        self._interval = interval
        self._last_answer = self._last_sign = time.monotonic()
        self._used = 0.0

    @property
    def beating(self) -> bool:
        """Whether the engine has given a sign of life lately, and all its processes live."""
        return not self._gone() and time.monotonic() - self._last_sign < self._silence

    @property
    def exit_code(self) -> int:
        """The code a server ends with: 0 if its engine ended because it was told to."""
        codes = [process.exitcode for process in self._processes]
        died = self._died or any(code not in (None, *_CLEAN_EXITS) for code in codes)
        return EXIT_GAVE_UP if died else 0

    async def run(self) -> None:
        """Watches until the engine is dead, whoever killed it."""
        await self._until_dead()
        self._died = True

    def _gone(self) -> bool:
        return self._dead() or any(process.exitcode is not None for process in self._processes)

    async def _until_dead(self) -> None:
        # Nobody has asked before, however long the start has taken.
        self._last_answer = self._last_sign = time.monotonic()
        while not self._gone():
            question = asyncio.ensure_future(self._ask())
            while not question.done():
                await asyncio.wait([question], timeout=self._interval)
                if question.done() or self._excused():
                    self._last_answer = self._last_sign = time.monotonic()
                elif self._gone():
                    question.cancel()
                    return
                elif self._hangs():
                    silent = time.monotonic() - self._last_answer
                    logger.error("the engine has not answered for %.0f s: killed", silent)
                    question.cancel()
                    self.kill()
                    return
            if question.exception() is not None:
                return  # it is dead, and vLLM tells everybody who waits for it
            await asyncio.sleep(self._interval)

    def _hangs(self) -> bool:
        """Whether it has been silent for too long, now that it has not answered."""
        now = time.monotonic()
        used = sum(
            work_seconds(process.pid, children=True) for process in self._processes if process.pid
        )
        if used - self._used > _BUSY_SHARE * self._interval:
            self._last_sign = now
        self._used = used
        return (
            now - self._last_sign >= self._silence
            or now - self._last_answer >= _LONGEST_STEP * self._silence
        )

    def kill(self) -> None:
        """Ends the engine. Requests in flight fail, the server ends, its watcher starts another."""
        for process in self._processes:
            process.kill()
