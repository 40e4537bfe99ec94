"""The gate of several processes, with real ones that hammer it and die inside it."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.errors import EngineError
from engine.server.reload.gate import GateTimeoutError
from engine.server.reload.live_record import LiveRecord, SharedFolder
from engine.server.reload.process_gate import ProcessGate
from tests.engine.weights.served import live

SOON = 0.05
LONG = 600.0
FIRST = LiveRecord(state=live("0"))

# --- One process: what a request and a load see ---------------------------------------------------


def run(folder: Path, scenario: Callable[[ProcessGate], Awaitable[None]]) -> None:
    async def main() -> None:
        gate = ProcessGate(folder)
        async with asyncio.timeout(LONG):
            await scenario(gate)
            assert gate.readers == 0
            async with gate.writing(SOON):
                pass
            async with gate.reading(SOON):
                assert gate.readers == 1

    asyncio.run(main())


def test_readers_share_and_a_writer_is_alone(tmp_path: Path) -> None:
    async def scenario(gate: ProcessGate) -> None:
        async with gate.reading(SOON), gate.reading(SOON):
            assert gate.readers == 2
            with pytest.raises(GateTimeoutError, match="waited"):
                async with gate.writing(SOON):
                    raise AssertionError("somebody is inside")
            async with gate.reading(SOON):  # a writer that gave up holds nobody back
                pass
            with pytest.raises(GateTimeoutError):  # one has left, the others have not
                async with gate.writing(SOON):
                    raise AssertionError("somebody is inside")
        async with gate.writing(SOON):
            for way in (gate.reading(SOON), gate.writing(SOON)):
                with pytest.raises(GateTimeoutError):
                    async with way:
                        raise AssertionError("the writer is inside")

    run(tmp_path, scenario)


def test_a_waiting_writer_holds_new_readers_back(tmp_path: Path) -> None:
    async def scenario(gate: ProcessGate) -> None:
        order = []

        async def write() -> None:
            async with gate.writing(LONG):
                order.append("writer")

        async def read() -> None:
            async with gate.reading(LONG):
                order.append("late reader")

        async with gate.reading(SOON):
            writer = asyncio.create_task(write())
            await asyncio.sleep(SOON)
            reader = asyncio.create_task(read())
            await asyncio.sleep(SOON)
            assert order == []
        await asyncio.gather(writer, reader)
        assert order == ["writer", "late reader"]

    run(tmp_path, scenario)


@pytest.mark.parametrize("inside", [False, True])
def test_who_is_cancelled_leaves_nothing_locked(tmp_path: Path, inside: bool) -> None:
    async def scenario(gate: ProcessGate) -> None:
        async def stay(way: Any) -> None:
            async with way:
                await asyncio.sleep(LONG)

        async def cancel(way: Any) -> None:
            task = asyncio.create_task(stay(way))
            await asyncio.sleep(SOON)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        for way in (gate.reading(LONG), gate.writing(LONG), gate.alone()):
            if inside:
                await cancel(way)
            else:
                async with gate.alone(), gate.writing(SOON):
                    await cancel(way)

    run(tmp_path, scenario)


def test_alone_is_one_at_a_time_and_lets_readers_pass(tmp_path: Path) -> None:
    async def scenario(gate: ProcessGate) -> None:
        async with gate.alone(), gate.reading(SOON), asyncio.timeout(LONG):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(SOON), gate.alone():
                    raise AssertionError("somebody is alone")
        async with gate.alone():
            pass

    run(tmp_path, scenario)


def test_files_that_were_removed_are_missed(tmp_path: Path) -> None:
    """By a cleaner of old files, say. A lock on a new file of the same name would be none."""
    shared = SharedFolder(tmp_path, FIRST)
    assert not shared.begun
    assert shared.read() == FIRST
    shared.write(FIRST)
    assert shared.begun
    assert shared.read() == FIRST
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(EngineError, match=r"live\.json was removed"):
        shared.read()

    async def write() -> None:
        for way in (shared.gate.writing(SOON), shared.gate.alone()):
            with pytest.raises(EngineError, match="was removed"):
                async with way:
                    raise AssertionError("this keeps nobody out")

    asyncio.run(write())


# --- Several processes ----------------------------------------------------------------------------

SPAWN = multiprocessing.get_context("spawn")


@contextmanager
def process(work: Callable[..., None], *args: Any) -> Iterator[Any]:
    started = SPAWN.Process(target=work, args=args)
    started.start()
    try:
        yield started
    finally:
        started.kill()
        started.join()


N_SERVERS = 3


def answer_requests(folder: Path, seed: int, n_loads: int) -> None:
    """A server's process: eight connections with one request after another, until all is loaded.

    The weights are two files; a request looks at one, works for a while, and looks at the other.
    """
    shared, rng, seen = SharedFolder(folder, FIRST), random.Random(seed), []

    async def connection() -> None:
        version = "0"
        while version != str(n_loads):
            async with shared.gate.reading(LONG):
                record = shared.read()
                version = record.state.version
                one = (folder / "one").read_text()
                await asyncio.sleep(rng.random() * 0.004)
                other = (folder / "other").read_text()
                assert not record.loading
                assert one == other == version == shared.read().state.version
                seen.append(version)
                (folder / f"version-{version}-seen-by-{seed}").touch()

    async def all_of_them() -> None:
        await asyncio.gather(*(connection() for _ in range(8)))

    asyncio.run(all_of_them())
    (folder / f"seen-{seed}").write_text(json.dumps(seen))


def load_weights(folder: Path, n_loads: int) -> None:
    """A server's process that loads: the next version, until there are as many as wanted.

    It waits until every server has answered with the last one, while they go on answering.
    """
    shared = SharedFolder(folder, FIRST)

    async def load() -> bool:
        async with shared.gate.alone():
            await seen_by_all(shared.read().state.version)
            async with shared.gate.writing(LONG):
                return await write()

    async def seen_by_all(version: str) -> None:
        while len(list(folder.glob(f"version-{version}-seen-by-*"))) < N_SERVERS:
            await asyncio.sleep(0.01)

    async def write() -> bool:
        record = shared.read()
        version = str(int(record.state.version) + 1)
        if int(version) > n_loads:
            return False
        shared.write(record.model_copy(update={"loading": True}))
        (folder / "one").write_text(version)
        await asyncio.sleep(0.01)
        (folder / "other").write_text(version)
        state = live(version, version)
        shared.write(LiveRecord(state=state))
        return True

    async def all_of_them() -> None:
        while await load():
            pass

    asyncio.run(all_of_them())


@pytest.mark.slow
def test_no_request_sees_two_versions(tmp_path: Path) -> None:
    n_loads = 30
    for name in ("one", "other"):
        (tmp_path / name).write_text("0")
    servers = [
        SPAWN.Process(target=answer_requests, args=(tmp_path, i, n_loads)) for i in range(N_SERVERS)
    ]
    loaders = [SPAWN.Process(target=load_weights, args=(tmp_path, n_loads)) for _ in range(2)]
    for each in (*servers, *loaders):
        each.start()
    try:
        for each in (*servers, *loaders):
            each.join(LONG)
    finally:
        for each in (*servers, *loaders):
            each.kill()
    # Every request of every process was right, and the loads were not starved by them.
    assert [each.exitcode for each in (*servers, *loaders)] == [0] * (N_SERVERS + 2)
    seen = [json.loads((tmp_path / f"seen-{i}").read_text()) for i in range(N_SERVERS)]
    print(f"{sum(map(len, seen)):,} requests during {n_loads} loads")
    for versions in seen:
        assert set(versions) == {str(load) for load in range(n_loads + 1)}
        assert versions == sorted(versions, key=int)
    assert not list(tmp_path.glob("*live.json?*"))


def stay_inside(folder: Path, way: str) -> None:
    shared = SharedFolder(folder, FIRST)

    async def stay() -> None:
        ways: dict[str, Any] = {
            "reading": lambda: shared.gate.reading(LONG),
            "writing": lambda: shared.gate.writing(LONG),
            "alone": shared.gate.alone,
        }
        async with ways[way]():
            if way == "writing":
                shared.write(FIRST.model_copy(update={"loading": True}))
            (folder / "inside").touch()
            await asyncio.sleep(LONG)

    asyncio.run(stay())


@pytest.mark.parametrize("way", ["reading", "writing", "alone"])
def test_a_killed_process_frees_what_it_held(tmp_path: Path, way: str) -> None:
    shared = SharedFolder(tmp_path, FIRST)
    with process(stay_inside, tmp_path, way) as other:
        while not (tmp_path / "inside").exists():
            time.sleep(0.01)

        async def blocked() -> None:
            with pytest.raises((GateTimeoutError, TimeoutError)):
                async with asyncio.timeout(SOON), shared.gate.alone(), shared.gate.writing(SOON):
                    raise AssertionError("somebody is inside")

        asyncio.run(blocked())
        os.kill(other.pid, signal.SIGKILL)
        other.join()

        async def free() -> None:
            async with shared.gate.reading(1):
                # It died half way: whoever gets in now can see that, and serves nothing.
                assert shared.read().loading is (way == "writing")
            async with shared.gate.alone(), shared.gate.writing(1):
                pass

        asyncio.run(free())
