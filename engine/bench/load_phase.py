"""Measurements: requests are kept coming, and windows of the time are looked at."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from engine.bench.bench_calls import Call
from engine.bench.load_client import TimedCall, now
from engine.bench.workload import Load, Timing
from engine.errors import EngineError
from engine.questions.children import end_all

Send = Callable[[Call, float], Awaitable[TimedCall]]
OnTime = Callable[[float, float | None], None]

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


class _Windows:
    """Which times are looked at: those between edges.

    The first edge comes after the warm-up, once as many requests have been answered as there are in
    flight at once; the next one when the seconds of a window are over and the same has happened
    again, of requests that began in it. Or there is one window, all the time that a number of pairs
    takes.
    """

    def __init__(self, load: Load, timing: Timing, started: float, n_windows: int) -> None:
        self._load = load
        self._timing = timing
        self._started = started
        self._n_windows = n_windows
        self._wanted = load.concurrency or 1
        self._answered = self._answered_in_all = self._pairs = self._sent = self._failed = 0
        self.edges: list[float] = []
        self._spent: list[float] = []
        if timing.pairs:
            self._edge(started)

    def _edge(self, now: float) -> None:
        self.edges.append(now)
        self._spent.append(time.process_time())
        self._answered = 0

    def takes_more(self) -> bool:
        """Whether requests are still sent.

        As long as any of the windows is in flight: the last ones meet the load of the first ones.
        """
        return self._timing.pairs is None or self._sent < self._timing.pairs

    def sent(self, n_pairs: int) -> None:
        self._sent += n_pairs

    def answered(self, call: TimedCall, n_pairs: int) -> None:
        self._answered += not self.edges or call.due >= self.edges[-1]
        self._answered_in_all += 1
        self._pairs += n_pairs
        self._failed = 0 if call.error is None else self._failed + 1
        if self._failed > _GIVES_UP + self._wanted:
            problem = f"{self._failed} requests in a row failed, the last one so: {call.error}"
            raise EngineError(problem)

    def look(self, now: float) -> None:
        """Draws the next edge, if it is time."""
        if self._timing.pairs or len(self.edges) > self._n_windows:
            return
        since = self.edges[-1] if self.edges else self._started
        least = self._timing.seconds if self.edges else self._timing.warm_up
        if now >= since + least and self._answered >= self._wanted:
            self._edge(now)

    @property
    def end(self) -> float | None:
        """When the last one closed."""
        return self.edges[-1] if len(self.edges) > self._n_windows else None

    def expected(self, now: float) -> float | None:
        """Seconds that all takes from the start, as far as can be said so far."""
        passed, timing = now - self._started, self._timing
        if not self._answered_in_all:
            return None
        if timing.pairs:
            return passed * max(1.0, timing.pairs / self._pairs) if self._pairs else None
        # As many as there are at once: before the first edge, in each window behind those that it
        # begins with, and to end with.
        turn = passed / self._answered_in_all * self._wanted
        windows = [max(timing.seconds, 2 * turn)] * self._n_windows
        last = 0.0 if self._load.rate else turn
        left = [max(timing.warm_up, turn), *windows, last][len(self.edges) :]
        since = self.edges[-1] if self.edges else self._started
        return max(passed, since - self._started + sum(left))

    def phases(self, calls: Sequence[TimedCall], started: float) -> list[Phase]:
        """What was seen, window by window."""
        if self._timing.pairs:
            self._edge(max((call.end for call in calls), default=started))
        return [
            Phase(tuple(calls), begin, end, after - before, self._load.rate is not None)
            for (begin, end), (before, after) in zip(
                pairwise(self.edges), pairwise(self._spent), strict=True
            )
        ]


async def run_phases(
    calls: Iterator[Call],
    send: Send,
    load: Load,
    timing: Timing,
    *,
    n_windows: int = 1,
    seed: int = 0,
    on_time: OnTime = lambda seconds, expected: None,
    on_open: Callable[[], object] = lambda: None,
) -> list[Phase]:
    """Keeps requests coming until windows are over and those that reach into them are answered.

    Args:
        calls: The requests.
        send: Sends one.
        n_windows: How many follow each other; 1 where a number of pairs is measured.
        seed: Of the times at which requests are sent, where these are random.
        on_time: Called now and then with the seconds since the start and those that all will take,
            if that can be told yet.
        on_open: Called when the first window opens.

    Raises:
        InputError: As `send`.
        EngineError: If request after request fails.
    """
    started = now()
    arrivals, windows = _Arrivals(load, started, seed), _Windows(load, timing, started, n_windows)
    running: dict[asyncio.Task[TimedCall], tuple[float, int]] = {}
    done: list[TimedCall] = []
    opened = False
    try:
        while True:
            moment = now()
            windows.look(moment)
            if not opened and windows.edges:
                opened = True
                on_open()
            on_time(moment - started, windows.expected(moment))
            end = windows.end
            if end is not None and (load.rate or all(due >= end for due, _ in running.values())):
                break
            while windows.takes_more() and (due := arrivals.due(moment, len(running))) is not None:
                call = next(calls)
                windows.sent(call.n_pairs)
                running[asyncio.ensure_future(send(call, due))] = due, call.n_pairs
            if not running and not windows.takes_more():
                break
            wait = arrivals.wait(now()) if windows.takes_more() else None
            for each in await _next_answers(running, wait):
                _, n_pairs = running.pop(each)
                done.append(each.result())
                windows.answered(done[-1], n_pairs)
        if load.rate and running:
            done += await asyncio.gather(*running)
    finally:
        await end_all(list(running))
    return windows.phases(done, moment)


async def _next_answers(
    running: Collection[asyncio.Task[TimedCall]], seconds: float | None
) -> set[asyncio.Task[TimedCall]]:
    """What is answered next; nothing if something else is to be done before."""
    seconds = _SLEEP_S if seconds is None else min(seconds, _SLEEP_S)
    if not running:
        await asyncio.sleep(seconds)
        return set()
    answered, _ = await asyncio.wait(running, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    return answered
