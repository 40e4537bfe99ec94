"""The readers-writer gate, event by event."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import pytest

from engine.server.reload.gate import Gate, GateTimeoutError

SOON = 0.02
LONG = 600.0


def run(scenario: Callable[[Gate], Awaitable[None]]) -> None:
    async def main() -> None:
        gate = Gate()
        async with asyncio.timeout(600):
            await scenario(gate)
            # Whatever happened, the gate works: nothing is left inside, nothing is left waiting.
            assert gate.readers == 0
            async with gate.writing(SOON):
                pass
            async with gate.reading(SOON):
                assert gate.readers == 1

    asyncio.run(main())


async def settle() -> None:
    """Lets every task run until it waits for something."""
    for _ in range(10):
        await asyncio.sleep(0)


class Visitor:
    """Goes in, stays until told to leave, and notes how it went."""

    def __init__(self, way: AbstractAsyncContextManager[None]) -> None:
        self.inside = False
        self._leave = asyncio.Event()
        self.task = asyncio.create_task(self._visit(way))

    async def _visit(self, way: AbstractAsyncContextManager[None]) -> None:
        async with way:
            self.inside = True
            try:
                await self._leave.wait()
            finally:
                self.inside = False

    async def leave(self) -> None:
        self._leave.set()
        await self.task
        await settle()


def test_many_readers_at_once() -> None:
    async def scenario(gate: Gate) -> None:
        readers = [Visitor(gate.reading(LONG)) for _ in range(50)]
        await settle()
        assert all(reader.inside for reader in readers)
        assert gate.readers == 50
        for reader in readers:
            await reader.leave()

    run(scenario)


def test_a_writer_is_alone() -> None:
    async def scenario(gate: Gate) -> None:
        writer = Visitor(gate.writing(LONG))
        await settle()
        others = [Visitor(gate.writing(LONG)), Visitor(gate.reading(LONG))]
        await settle()
        assert writer.inside
        assert not any(other.inside for other in others)
        await writer.leave()
        assert others[0].inside
        assert not others[1].inside, "a waiting writer goes before a reader"
        await others[0].leave()
        assert others[1].inside
        await others[1].leave()

    run(scenario)


def test_a_writer_waits_for_the_last_reader() -> None:
    async def scenario(gate: Gate) -> None:
        first, second = Visitor(gate.reading(LONG)), Visitor(gate.reading(LONG))
        await settle()
        writer = Visitor(gate.writing(LONG))
        await settle()
        await first.leave()
        assert not writer.inside
        await second.leave()
        assert writer.inside
        await writer.leave()

    run(scenario)


def test_a_waiting_writer_holds_new_readers_back() -> None:
    async def scenario(gate: Gate) -> None:
        reader = Visitor(gate.reading(LONG))
        await settle()
        writer = Visitor(gate.writing(LONG))
        await settle()
        late = [Visitor(gate.reading(LONG)) for _ in range(3)]
        await settle()
        assert not any(visitor.inside for visitor in late)
        await reader.leave()
        assert writer.inside
        assert not any(visitor.inside for visitor in late)
        await writer.leave()
        assert all(visitor.inside for visitor in late)
        for visitor in late:
            await visitor.leave()

    run(scenario)


def test_a_reader_gives_up_in_time() -> None:
    async def scenario(gate: Gate) -> None:
        async with gate.writing(LONG):
            with pytest.raises(GateTimeoutError):
                async with gate.reading(SOON):
                    pytest.fail("went in beside a writer")

    run(scenario)


def test_a_writer_gives_up_in_time_and_lets_the_readers_in_it_held_back() -> None:
    async def scenario(gate: Gate) -> None:
        reader = Visitor(gate.reading(LONG))
        await settle()
        writer = Visitor(gate.writing(SOON))
        await settle()
        late = Visitor(gate.reading(LONG))
        await settle()
        assert not late.inside
        with pytest.raises(GateTimeoutError):
            await writer.task
        await settle()
        assert late.inside
        assert reader.inside
        await reader.leave()
        await late.leave()

    run(scenario)


@pytest.mark.parametrize("way", ["reading", "writing"])
def test_a_visitor_cancelled_while_waiting_leaves_the_gate_as_it_was(way: str) -> None:
    async def scenario(gate: Gate) -> None:
        writer = Visitor(gate.writing(LONG))
        await settle()
        waiting = Visitor(getattr(gate, way)(LONG))
        behind = Visitor(gate.reading(LONG))
        await settle()
        waiting.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting.task
        assert not behind.inside
        await writer.leave()
        assert behind.inside
        await behind.leave()

    run(scenario)


def test_a_writer_cancelled_while_readers_are_inside_lets_new_readers_in() -> None:
    async def scenario(gate: Gate) -> None:
        reader = Visitor(gate.reading(LONG))
        await settle()
        writer = Visitor(gate.writing(LONG))
        await settle()
        late = Visitor(gate.reading(LONG))
        await settle()
        writer.task.cancel()
        await settle()
        assert late.inside
        await late.leave()
        await reader.leave()

    run(scenario)


@pytest.mark.parametrize("way", ["reading", "writing"])
def test_a_visitor_cancelled_inside_lets_the_next_one_in(way: str) -> None:
    async def scenario(gate: Gate) -> None:
        visitor = Visitor(getattr(gate, way)(LONG))
        await settle()
        writer = Visitor(gate.writing(LONG))
        await settle()
        visitor.task.cancel()
        await settle()
        assert writer.inside
        await writer.leave()

    run(scenario)


@pytest.mark.parametrize("way", ["reading", "writing"])
def test_a_visitor_cancelled_in_the_moment_the_gate_opens(way: str) -> None:
    async def scenario(gate: Gate) -> None:
        # However many steps lie between opening and cancelling, nothing may stay behind.
        for steps in range(6):
            writer = Visitor(gate.writing(LONG))
            await settle()
            waiting = Visitor(getattr(gate, way)(LONG))
            await settle()
            writer._leave.set()
            for _ in range(steps):
                await asyncio.sleep(0)
            waiting.task.cancel()
            await asyncio.gather(writer.task, waiting.task, return_exceptions=True)
            assert gate.readers == 0
            async with gate.writing(SOON):
                pass

    run(scenario)


@pytest.mark.parametrize("way", ["reading", "writing"])
def test_an_exception_inside_passes_through_and_releases(way: str) -> None:
    async def scenario(gate: Gate) -> None:
        with pytest.raises(ZeroDivisionError):
            async with getattr(gate, way)(LONG):
                raise ZeroDivisionError

    run(scenario)


def test_readers_and_writers_at_random_never_meet() -> None:
    async def scenario(gate: Gate) -> None:
        readers = writers = met = 0

        async def read(steps: int) -> None:
            nonlocal readers
            async with gate.reading(LONG):
                readers += 1
                assert not writers
                for _ in range(steps):
                    await asyncio.sleep(0)
                    assert not writers
                readers -= 1

        async def write(steps: int) -> None:
            nonlocal writers, met
            async with gate.writing(LONG):
                writers += 1
                for _ in range(steps):
                    assert (readers, writers) == (0, 1)
                    await asyncio.sleep(0)
                writers -= 1
                met += 1

        async with asyncio.TaskGroup() as group:
            for number in range(200):
                group.create_task((write if number % 10 == 0 else read)(number % 7))
                if number % 3 == 0:
                    await asyncio.sleep(0)
        assert met == 20

    run(scenario)
