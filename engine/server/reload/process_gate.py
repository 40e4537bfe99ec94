"""The gate of `gate.py` beside it for several processes of one server, which share a folder.

Three files are locked, none is written. `flock` belongs to the open file, so the kernel frees what
a process held whatever ends it.

- `turnstile`: a reader passes it on its way in; a writer keeps it from when it begins to wait, so
  that a steady stream of readers cannot starve it.
- `gate`: shared while any request of a process is inside, exclusive while a writer is.
- `alone`: one change at a time, its checks included, which need no empty gate.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from engine.errors import EngineError
from engine.server.reload.gate import GateTimeoutError

_POLL_SECONDS = 0.005


class ProcessGate:
    """Lets requests of any process in, or one writer of one process.

    Passing an open gate takes some microseconds. Whoever finds it closed looks again every 5 ms.

    Args:
        folder: A folder of the server's own, on a local file system. One gate per process.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._turnstile, self._gate, self._alone = (
            _open(folder / name) for name in ("turnstile", "gate", "alone")
        )
        self._readers = 0

    @property
    def readers(self) -> int:
        """Readers of this process inside."""
        return self._readers

    @asynccontextmanager
    async def reading(self, timeout: float) -> AsyncIterator[None]:
        """Inside, no writer is, of whatever process.

        Raises:
            GateTimeoutError: If a writer is inside or waiting for longer than `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while not self._enter():
            await _wait(deadline, timeout)
        try:
            yield
        finally:
            self._readers -= 1
            if not self._readers:
                fcntl.flock(self._gate, fcntl.LOCK_UN)

    @asynccontextmanager
    async def writing(self, timeout: float) -> AsyncIterator[None]:
        """Inside, nobody else is.

        Raises:
            GateTimeoutError: If others stay inside for longer than `timeout` seconds.
            EngineError: If somebody has removed the files.
        """
        deadline = time.monotonic() + timeout
        with self._reopened("turnstile", self._turnstile) as turnstile:
            while not _lock(turnstile, fcntl.LOCK_EX):
                await _wait(deadline, timeout)
            with self._reopened("gate", self._gate) as gate:
                while not _lock(gate, fcntl.LOCK_EX):
                    await _wait(deadline, timeout)
                yield

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Inside, nobody else is in `alone`; readers come and go.

        Raises:
            EngineError: If somebody has removed the files.
        """
        with self._reopened("alone", self._alone) as file:
            while not _lock(file, fcntl.LOCK_EX):
                await asyncio.sleep(_POLL_SECONDS)
            yield

    def _enter(self) -> bool:
        if not _lock(self._turnstile, fcntl.LOCK_SH):
            return False
        try:
            if not self._readers and not _lock(self._gate, fcntl.LOCK_SH):
                return False
            self._readers += 1
            return True
        finally:
            fcntl.flock(self._turnstile, fcntl.LOCK_UN)

    @contextmanager
    def _reopened(self, name: str, known: int) -> Iterator[int]:
        """A file opened anew, whose lock keeps this process's own readers out as well.

        Closing it frees the lock. A cleaner of old files may have removed the one that the others
        hold open; a lock on its successor would keep nobody out.
        """
        file = _open(self._folder / name)
        try:
            if not os.path.samestat(os.fstat(file), os.fstat(known)):
                raise EngineError(f"{self._folder / name} was removed; start the server again")
            yield file
        finally:
            os.close(file)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _lock(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _wait(deadline: float, timeout: float) -> None:
    if time.monotonic() >= deadline:
        raise GateTimeoutError(f"waited {timeout:.0f} s")
    await asyncio.sleep(_POLL_SECONDS)
