"""One measurement: requests are kept coming, and a window of the time is looked at."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from engine.bench.bench_calls import Call
from engine.bench.load_client import TimedCall, now
from engine.bench.workload import Load, Timing
from engine.errors import EngineError
from engine.questions.children import end_all

Send = Callable[[Call, float], Awaitable[TimedCall]]

_SLEEP_S = 0.05

_GIVES_UP = 50  # failures in a row, beside those that were in flight at once: the engine is gone


@dataclass(frozen=True)
class Phase:
    """What a measurement saw.

    Attributes:
        calls: All that were answered or failed, those that reach into the window among them.
        begin: When the window began, by `now`.
        end: When it ended.
        cpu_seconds: CPU time of this process in it, all that is not the engine's.
        open_loop: Whether requests were sent at a rate, so that they may have queued up.
    """

    calls: tuple[TimedCall, ...]
    begin: float
    end: float
    cpu_seconds: float
    open_loop: bool = False

    @property
    def seconds(self) -> float:
        """Length of the window."""
        return self.end - self.begin


class _Arrivals:
    """When the next request is due."""

    def __init__(self, load: Load, now: float, seed: int) -> None:
        self._load = load
        self._draw = random.Random(f"arrivals/{seed}")
        self._next = now + self._gap()

    def _gap(self) -> float:
        return self._draw.expovariate(self._load.rate) if self._load.rate else 0.0

    def due(self, now: float, in_flight: int) -> float | None:
        """When the request was due that can be sent now; None if there is none."""
        if self._load.concurrency is not None:
            return now if in_flight < self._load.concurrency else None
        if now < self._next:
            return None
        due, self._next = self._next, self._next + self._gap()
        return due

    def wait(self, now: float) -> float | None:
        """Seconds until there is one, whatever is answered; None: only when something is."""
        return max(0.0, self._next - now) if self._load.rate else None


class _Window:
    """Which time is looked at.

    It opens after the warm-up, once as many requests have been answered as there are in flight at
    once, and closes when its seconds are over and the same has happened again, of requests that
    began in it. Or it is all the time that a number of pairs takes.
    """

    def __init__(self, load: Load, timing: Timing, started: float) -> None:
        self._timing = timing
        self._opens = started + timing.warm_up
        self._wanted = load.concurrency or 1
        self._answered = self._sent = self._failed = 0
        self._spent = time.process_time()
        self.cpu_seconds = 0.0
        self.begin: float | None = started if timing.pairs else None
        self.end: float | None = None

    def takes_more(self) -> bool:
        """Whether requests are still sent.

        As long as any of the window is in flight: its last ones meet the load of its first ones.
        """
        return self._timing.pairs is None or self._sent < self._timing.pairs

    def sent(self, n_pairs: int) -> None:
        self._sent += n_pairs

    def answered(self, call: TimedCall) -> None:
        self._answered += self.begin is None or call.due >= self.begin
        self._failed = 0 if call.error is None else self._failed + 1
        if self._failed > _GIVES_UP + self._wanted:
            problem = f"{self._failed} requests in a row failed, the last one so: {call.error}"
            raise EngineError(problem)

    def look(self, now: float) -> None:
        """Opens or closes it, if it is time."""
        served = self._answered >= self._wanted
        if self.begin is None and now >= self._opens and served:
            self.begin, self._answered, self._spent = now, 0, time.process_time()
        elif self.begin is not None and self.end is None:
            self.cpu_seconds = time.process_time() - self._spent
            over = now >= self.begin + self._timing.seconds
            if self._timing.pairs is None and over and served:
                self.end = now


async def run_phase(
    calls: Iterator[Call],
    send: Send,
    load: Load,
    timing: Timing,
    *,
    seed: int = 0,
    on_time: Callable[[float], None] = lambda seconds: None,
    on_open: Callable[[], object] = lambda: None,
) -> Phase:
    """Keeps requests coming until the window is over and those that reach into it are answered.

    Args:
        calls: The requests.
        send: Sends one.
        seed: Of the times at which requests are sent, where these are random.
        on_time: Called now and then with the seconds since the start.
        on_open: Called when the window opens.

    Raises:
        InputError: As `send`.
        EngineError: If request after request fails.
    """
    started = now()
    arrivals, window = _Arrivals(load, started, seed), _Window(load, timing, started)
    running: dict[asyncio.Task[TimedCall], float] = {}
    done: list[TimedCall] = []
    opened = False
    try:
        while True:
            moment = now()
            window.look(moment)
            if not opened and window.begin is not None:
                opened = True
                on_open()
            on_time(moment - started)
            end = window.end
            if end is not None and (load.rate or all(due >= end for due in running.values())):
                break
            while window.takes_more() and (due := arrivals.due(moment, len(running))) is not None:
                call = next(calls)
                window.sent(call.n_pairs)
                running[asyncio.ensure_future(send(call, due))] = due
            if not running and not window.takes_more():
                break
            wait = arrivals.wait(now()) if window.takes_more() else None
            for each in await _next_answers(running, wait):
                del running[each]
                done.append(each.result())
                window.answered(done[-1])
        if load.rate and running:
            done += await asyncio.gather(*running)
    finally:
        await end_all(list(running))
    begin = started if window.begin is None else window.begin
    end = window.end or max((call.end for call in done), default=moment)
    return Phase(tuple(done), begin, end, window.cpu_seconds, load.rate is not None)


async def _next_answers(
    running: dict[asyncio.Task[TimedCall], float], seconds: float | None
) -> set[asyncio.Task[TimedCall]]:
    """What is answered next; nothing if something else is to be done before."""
    seconds = _SLEEP_S if seconds is None else min(seconds, _SLEEP_S)
    if not running:
        await asyncio.sleep(seconds)
        return set()
    answered, _ = await asyncio.wait(running, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    return answered
