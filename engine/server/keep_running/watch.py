"""The watcher of a server: what dies or hangs is started again, on the weights that were live."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from engine.errors import GaveUpError, InputError
from engine.weights.live_file import LastGood, read_last_good

_EXIT_BAD_INPUT = 2
_STOP_SECONDS = 20.0


class Server(Protocol):
    """What is needed of `engine.process.engine_process.EngineProcess`."""

    def stop(self, timeout_s: float | None = ...) -> None:
        """Ends it with all it has started; None: after the time its flags give it."""

    def running(self) -> bool:
        """Whether the process lives."""
        ...

    def answers(self, timeout_s: float = ...) -> bool:
        """Whether it answers at all."""
        ...

    def work_seconds(self) -> float:
        """For how long it has worked, or would have, had it had the cores."""
        ...

    def ready(self) -> bool:
        """Whether it can score."""
        ...

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        ...


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """How patient a watcher is.

    Attributes:
        tries: Failures after which it gives up.
        window_seconds: After so long in service the failures before are forgotten.
        start_seconds: How long a server may take to get ready.
        silence_seconds: How long a server that was ready may leave the watcher without any answer.
        busy_seconds: The same for one that is at work.
        poll_seconds: Between two looks.
        pause_seconds: Before a second try; doubled with every further one, up to `window_seconds`.
    """

    tries: int = 3
    window_seconds: float = 600.0
    start_seconds: float = 900.0
    silence_seconds: float = 7.0
    busy_seconds: float = 60.0
    poll_seconds: float = 0.5
    pause_seconds: float = 1.0


class Watcher:
    """Keeps one server running.

    Args:
        start: Starts a server on the weights that were live last, or on the model when it is None.
        live_file: Where the server writes down which weights are live.
        stop: Waits for so many seconds; true as soon as the watcher is told to stop.
        say: Takes the lines meant for a person.
    """

    def __init__(
        self,
        start: Callable[[LastGood | None], Server],
        live_file: Path,
        stop: Callable[[float], bool],
        say: Callable[[str], None],
        settings: WatchSettings,
    ) -> None:
        self._start = start
        self._live_file = live_file
        self._stop = stop
        self._say = say
        self._settings = settings
        self._last: LastGood | None = None
        self._ready_at: float | None = None

    def run(self) -> None:
        """Returns when it is told to stop.

        Raises:
            GaveUpError: If the server failed too often.
            InputError: If the server finds fault with its flags, or the weights that were live are
                gone; trying again would not help.
        """
        count = 0
        while True:
            if last := self._live():
                last.check(self._live_file)
            server = self._start(last)
            try:
                failure = self._until_it_fails(server)
                if failure is not None:  # what hangs finishes no requests
                    server.stop(_STOP_SECONDS)
            finally:
                server.stop()
            if failure is None:
                return
            ready_at, now = self._ready_at, time.monotonic()
            if ready_at is not None and now - ready_at >= self._settings.window_seconds:
                count = 0
            count += 1
            if count >= self._settings.tries:
                raise GaveUpError(f"{failure}; that was failure {count}, giving up")
            last = self._live()
            self._say(f"{failure}; starting again on {last.version if last else 'the model'}")
            pause = self._settings.pause_seconds * 2 ** min(count - 1, 30)
            if self._stop(min(pause, self._settings.window_seconds)):
                return

    def _live(self) -> LastGood | None:
        """What is live by the file, or was when somebody removed it."""
        self._last = read_last_good(self._live_file) or self._last
        return self._last

    def _until_it_fails(self, server: Server) -> str | None:
        """What went wrong, or None when the watcher was told to stop."""
        settings = self._settings
        started = last_answer = time.monotonic()
        self._ready_at, work = None, 0.0
        while not self._stop(settings.poll_seconds):
            if not server.running():
                code = server.wait()
                if code == _EXIT_BAD_INPUT and self._ready_at is None:
                    raise InputError("the server refused its flags; it says why above")
                return f"the engine ended with code {code}"
            if self._ready_at is None:
                ready, last_answer = server.ready(), time.monotonic()
                if ready:
                    self._ready_at = last_answer
                    self._say(f"ready after {last_answer - started:.0f} s")
                elif last_answer - started > settings.start_seconds:
                    return (
                        f"the engine was not ready after {settings.start_seconds:.0f} s; "
                        "--limit start_seconds=N gives it longer"
                    )
                continue
            if server.answers(settings.silence_seconds / 4):
                last_answer, work = time.monotonic(), server.work_seconds()
                with suppress(InputError, OSError):  # a disk that fails is no fault of the server's
                    self._live()
            elif (silent := time.monotonic() - last_answer) >= settings.silence_seconds:
                # Reading a very large request keeps a server from answering, and is no hanging.
                busy = server.work_seconds() - work > silent / 10
                if not busy or silent >= settings.busy_seconds:
                    return f"the engine has not answered for {silent:.0f} s"
        return None
