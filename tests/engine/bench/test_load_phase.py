"""What a measurement says of an engine whose speed is known, in virtual time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import pytest

from engine.bench.bench_calls import Call
from engine.bench.figures import Figures
from engine.bench.load_client import TimedCall, now
from engine.bench.load_phase import Phase, run_phases
from engine.bench.workload import Load, Timing
from engine.errors import EngineError, InputError
from engine.protocol.api import Usage
from tests.engine.bench.virtual_time import run_virtual

CALL = Call("logprobs", 2, (), "salt")
COST = Usage(pairs=2, tokens_submitted=200, tokens_reused=150, tokens_generated=4)


class Slots:
    """An engine that does so many requests at once, each in the same time."""

    def __init__(self, n: int, seconds: float) -> None:
        self._n = n
        self._seconds = seconds
        self._free: asyncio.Semaphore | None = None
        self.in_flight = self.sent = 0
        self.seen: list[int] = []

    async def send(self, call: Call, due: float) -> TimedCall:
        self._free = self._free or asyncio.Semaphore(self._n)
        self.in_flight += 1
        self.sent += 1
        self.seen.append(self.in_flight)
        try:
            async with self._free:
                await asyncio.sleep(self._seconds / 4)
                first = now()
                await asyncio.sleep(self._seconds * 3 / 4)
        finally:
            self.in_flight -= 1
        return TimedCall(call.kind, due, now(), first, COST)


def measured(
    engine: Slots | Callable[[Call, float], Awaitable[TimedCall]], load: Load, timing: Timing
) -> tuple[Figures, Phase]:
    send = engine.send if isinstance(engine, Slots) else engine
    (phase,) = run_virtual(run_phases(itertools.repeat(CALL), send, load, timing))
    return Figures.of(phase.calls, phase), phase


@pytest.mark.parametrize(
    ("concurrency", "rate", "latency"), [(1, 100.0, 0.01), (4, 400.0, 0.01), (16, 400.0, 0.04)]
)
def test_more_at_once_is_faster_until_the_engine_is_full_and_then_only_waits_longer(
    concurrency: int, rate: float, latency: float
) -> None:
    engine = Slots(4, 0.01)
    figures, phase = measured(engine, Load(concurrency=concurrency), Timing(seconds=3))
    assert phase.seconds == pytest.approx(3, abs=0.1)
    assert figures.requests_per_s == pytest.approx(rate, rel=0.01)
    assert figures.pairs == pytest.approx(2 * rate, rel=0.01)
    assert figures.submitted == pytest.approx(200 * rate, rel=0.01)
    assert figures.computed == pytest.approx(50 * rate, rel=0.01)
    assert figures.reused == pytest.approx(150 * rate, rel=0.01)
    assert figures.generated == pytest.approx(4 * rate, rel=0.01)
    assert figures.latency is not None
    assert figures.latency.p50 == pytest.approx(latency, rel=0.05)
    assert figures.latency.p99 == pytest.approx(latency, rel=0.05)
    assert max(engine.seen) == concurrency


def test_long_requests_count_by_their_time_in_the_window() -> None:
    figures, phase = measured(Slots(2, 7.0), Load(concurrency=2), Timing(seconds=10, warm_up=2))
    assert figures.requests_per_s == pytest.approx(2 / 7, rel=0.001)
    assert phase.seconds >= 10
    assert figures.requests >= 2
    assert figures.first_result is not None
    assert figures.first_result.p50 == pytest.approx(1.75)


def test_a_window_is_open_until_every_line_was_served() -> None:
    figures, phase = measured(Slots(1, 3.0), Load(concurrency=8), Timing(seconds=1, warm_up=0))
    assert phase.seconds >= 24
    assert figures.requests >= 8
    assert figures.requests_per_s == pytest.approx(1 / 3, rel=0.001)


def test_windows_follow_each_other_and_share_out_what_reaches_across() -> None:
    engine = Slots(2, 3.0)
    load, timing = Load(concurrency=4), Timing(seconds=5, warm_up=1)
    work = run_phases(itertools.repeat(CALL), engine.send, load, timing, n_windows=3)
    phases = run_virtual(work)
    for phase, following in itertools.pairwise(phases):
        assert phase.end == following.begin
    for phase in phases:
        assert phase.seconds >= 5
        figures = Figures.of(phase.calls, phase)
        assert figures.requests >= 4
        assert figures.requests_per_s == pytest.approx(2 / 3, rel=0.001)
    assert engine.sent < 4 + 3 * 6 + 2 * 4  # warmed up for once


@pytest.mark.parametrize(
    ("load", "timing", "n_windows"),
    [
        (Load(concurrency=4), Timing(seconds=10, warm_up=2), 1),
        (Load(concurrency=16), Timing(seconds=1, warm_up=0), 1),
        (Load(concurrency=16), Timing(seconds=1, warm_up=0), 3),
        (Load(concurrency=4), Timing(pairs=100), 1),
        (Load(rate=1.0), Timing(seconds=30, warm_up=5), 2),
    ],
)
def test_how_long_it_takes_is_told_and_comes_true(
    load: Load, timing: Timing, n_windows: int
) -> None:
    told: list[tuple[float, float | None]] = []
    work = run_phases(
        itertools.repeat(CALL),
        Slots(2, 1.0).send,
        load,
        timing,
        n_windows=n_windows,
        on_time=lambda seconds, expected: told.append((seconds, expected)),
    )
    run_virtual(work)
    took = told[-1][0]
    assert told[0][1] is None
    early = [expected for seconds, expected in told if 0.3 * took < seconds]
    assert early == pytest.approx([took] * len(early), rel=0.3)
    assert all(expected is None or expected >= seconds for seconds, expected in told)


def test_the_last_requests_of_a_window_meet_the_load_of_the_first() -> None:
    """Otherwise an engine that shares itself out would seem faster than it is."""

    class Shared(Slots):
        """All requests in flight progress together."""

        async def send(self, call: Call, due: float) -> TimedCall:
            self.in_flight += 1
            left = 1.0
            while left > 1e-9:
                share = self.in_flight
                await asyncio.sleep(0.01)
                left -= 0.01 / share
            self.in_flight -= 1
            return TimedCall(call.kind, due, now(), now(), COST)

    figures, _ = measured(Shared(1, 1), Load(concurrency=8), Timing(seconds=20, warm_up=10))
    assert figures.requests_per_s == pytest.approx(1.0, rel=0.03)


def test_pairs_in_place_of_seconds_are_just_those() -> None:
    engine = Slots(4, 0.01)
    figures, phase = measured(engine, Load(concurrency=8), Timing(pairs=100, warm_up=5))
    assert engine.sent == figures.requests == 50
    assert figures.pairs * phase.seconds == pytest.approx(100)
    assert phase.seconds == pytest.approx(13 * 0.01)


def test_at_a_rate_a_request_waits_from_when_it_was_due() -> None:
    """An engine that stands still for a while may not hide it by being asked less."""
    free_at = 0.0

    async def send(call: Call, due: float) -> TimedCall:
        nonlocal free_at
        begin = max(now(), free_at)
        free_at = begin + (8.0 if 5 <= begin < 5.2 else 0.01)
        await asyncio.sleep(free_at - now())
        return TimedCall(call.kind, due, now(), now(), COST)

    figures, _ = measured(send, Load(rate=10.0), Timing(seconds=30, warm_up=1))
    assert figures.requests == pytest.approx(300, rel=0.2)
    assert figures.latency is not None
    assert figures.latency.p99 > 7
    assert figures.latency.p95 > 5
    assert figures.latency.p50 < 1


def test_a_rate_beyond_the_engine_shows_in_what_was_answered() -> None:
    figures, _ = measured(Slots(1, 0.1), Load(rate=20.0), Timing(seconds=30, warm_up=0))
    assert figures.requests == pytest.approx(600, rel=0.2)
    assert figures.requests_per_s == pytest.approx(10, rel=0.2)
    assert figures.latency is not None
    assert figures.latency.p99 > 15


def test_the_same_seed_sends_at_the_same_times() -> None:
    def due(seed: int) -> list[float]:
        work = run_phases(
            itertools.repeat(CALL), Slots(4, 0.01).send, Load(rate=5), Timing(), seed=seed
        )
        (phase,) = run_virtual(work)
        return [call.due for call in phase.calls]

    assert due(1) == due(1) != due(2)


def test_failures_are_counted_and_bring_nothing() -> None:
    numbers = itertools.count()

    async def send(call: Call, due: float) -> TimedCall:
        await asyncio.sleep(0.1)
        if next(numbers) % 4 == 0:
            return TimedCall(call.kind, due, now(), error="no")
        return TimedCall(call.kind, due, now(), now(), COST)

    figures, _ = measured(send, Load(concurrency=1), Timing(seconds=20, warm_up=0))
    assert figures.errors == pytest.approx(figures.requests / 4, abs=1)
    assert figures.requests_per_s == pytest.approx(7.5, rel=0.02)


def test_an_engine_that_is_gone_is_not_asked_for_ever() -> None:
    answered = itertools.count()

    async def send(call: Call, due: float) -> TimedCall:
        await asyncio.sleep(0.01)
        error = "it died" if next(answered) > 200 else None
        return TimedCall(call.kind, due, now(), usage=COST, error=error)

    with pytest.raises(EngineError, match="54 requests in a row failed, the last one so: it died"):
        measured(send, Load(concurrency=3), Timing(seconds=3600))


def test_what_is_wrong_with_the_workload_ends_it() -> None:
    async def send(call: Call, due: float) -> TimedCall:
        raise InputError("too long")

    with pytest.raises(InputError, match="too long"):
        measured(send, Load(concurrency=3), Timing())
