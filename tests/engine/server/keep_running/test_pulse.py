"""A hanging engine is killed in time, a busy one is not."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from engine.errors import EXIT_GAVE_UP
from engine.server.keep_running import pulse
from engine.server.keep_running.pulse import Pulse

LONG = 600.0


@dataclass
class FakeProcess:
    exitcode: int | None = None
    killed: int = 0
    pid: int | None = None

    def kill(self) -> None:
        self.killed += 1
        self.exitcode = -signal.SIGKILL


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[], float]:
    """Time that passes only when somebody looks at the clock, by a hundredth of a second."""
    looks = itertools.count()

    def look() -> float:
        return next(looks) / 100

    monkeypatch.setattr(pulse, "time", SimpleNamespace(monotonic=look))
    return look


async def at_once() -> None:
    pass


async def never() -> None:
    await asyncio.Event().wait()


async def dead() -> None:
    raise RuntimeError("the engine is dead")


def watched(
    ask: Callable[[], Awaitable[None]], process: FakeProcess, *, excused: bool = False
) -> Pulse:
    return Pulse(ask, [process], 0.2, lambda: excused, interval=0.001)


async def run_for(watching: Pulse, seconds: float) -> bool:
    """Whether it ended by itself."""
    running = asyncio.create_task(watching.run())
    await asyncio.wait([running], timeout=seconds)
    ended = running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return ended


def test_a_hanging_engine_is_killed_in_time(clock: Callable[[], float]) -> None:
    process = FakeProcess()
    watching = watched(never, process)
    started = clock()
    assert asyncio.run(run_for(watching, LONG))
    assert clock() - started == pytest.approx(0.2, abs=0.05)
    assert process.killed == 1
    assert not watching.beating
    assert watching.exit_code == EXIT_GAVE_UP


def test_a_slow_start_is_no_silence(clock: Callable[[], float]) -> None:
    process = FakeProcess()

    async def soon() -> None:
        await asyncio.sleep(0.004)  # some looks at the clock

    watching = watched(soon, process)
    for _ in range(1000):  # the self-test of a busy machine
        clock()
    assert not asyncio.run(run_for(watching, 0.2))
    assert process.killed == 0


def test_an_engine_that_answers_lives_on() -> None:
    process = FakeProcess()
    watching = watched(at_once, process)
    assert not asyncio.run(run_for(watching, 0.5))
    assert watching.beating
    assert not process.killed


def test_an_engine_that_loads_weights_may_be_silent() -> None:
    process = FakeProcess()
    assert not asyncio.run(run_for(watched(never, process, excused=True), 0.5))
    assert not process.killed


@pytest.mark.parametrize(("work", "killed"), [(1.0, 0), (0.0, 1)])
def test_an_engine_at_work_may_be_silent(
    monkeypatch: pytest.MonkeyPatch, work: float, killed: int
) -> None:
    clock = iter(range(10_000))
    monkeypatch.setattr(pulse, "work_seconds", lambda pid, children: work * next(clock))
    process = FakeProcess(pid=1)
    watching = watched(never, process)
    assert asyncio.run(run_for(watching, LONG if killed else 0.2)) is bool(killed)
    assert process.killed == killed
    assert watching.beating is not bool(killed)


def test_an_engine_that_works_for_ever_hangs_too(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr(pulse, "work_seconds", lambda pid, children: next(clock))
    process = FakeProcess(pid=1)
    assert asyncio.run(run_for(watched(never, process), LONG))
    assert process.killed == 1


@pytest.mark.parametrize("exitcode", [None, 1])
def test_a_dead_engine_is_not_asked_any_more(exitcode: int | None) -> None:
    process = FakeProcess(exitcode)
    assert asyncio.run(run_for(watched(dead, process), LONG))
    assert not process.killed


@pytest.mark.parametrize(
    ("codes", "code"),
    [([], 0), ([None], 0), ([0, 0], 0), ([-15], 0), ([0, 1], 70), ([-9], 70)],
)
def test_exit_codes(codes: list[int | None], code: int) -> None:
    processes = [FakeProcess(value) for value in codes]
    assert Pulse(at_once, processes, 0.2, lambda: False).exit_code == code


def test_an_engine_that_lost_a_rank_died_though_its_process_still_ends() -> None:
    """It waits for the other ranks, until the server is over and vLLM ends it without waiting."""
    errored = False

    async def lose_a_rank() -> None:
        nonlocal errored
        errored = True
        await never()  # the call that was under way then never ends

    process = FakeProcess()
    watching = Pulse(lose_a_rank, [process], LONG, lambda: False, 0.001, dead=lambda: errored)
    assert watching.exit_code == 0
    assert asyncio.run(run_for(watching, LONG))
    assert (process.exitcode, process.killed) == (None, 0)
    assert watching.exit_code == EXIT_GAVE_UP
    assert not watching.beating


def test_a_server_that_is_told_to_stop_has_lost_nothing() -> None:
    watching = watched(at_once, FakeProcess())
    assert not asyncio.run(run_for(watching, 0.01))
    assert watching.exit_code == 0


def test_an_engine_of_the_parents_ends_with_this_process() -> None:
    """As the API processes do, of which there may be several; their parent ends the rest."""
    program = "from engine.server.keep_running.pulse import WholeServer; WholeServer().kill()"
    ended = subprocess.run([sys.executable, "-c", program], check=False)
    assert ended.returncode == EXIT_GAVE_UP
    assert pulse.WholeServer().pid == os.getppid()
    assert pulse.WholeServer().exitcode is None
