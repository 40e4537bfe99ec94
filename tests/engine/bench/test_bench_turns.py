"""All measurements over HTTP: what is asked in which order, and what is made of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from engine.bench.bench_calls import STOCK
from engine.bench.bench_result import Reading
from engine.bench.bench_turns import BenchTurns, Reloads, agreement
from engine.bench.load_client import LoadClient
from engine.bench.workload import Load, Timing
from engine.errors import EngineError
from tests.engine.bench.bench_server import BenchServer, bench_server, served_model
from tests.engine.bench.test_bench_calls import calls

SHORT = Timing(seconds=0.15, warm_up=0.05, repeats=2)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[BenchServer]:
    with bench_server(served_model(tmp_path)) as server:
        yield server


def take(
    server: BenchServer,
    ways: Sequence[Sequence[str]],
    timing: Timing = SHORT,
    loads: Sequence[Load] = (Load(concurrency=1), Load(concurrency=4)),
    reloads: Reloads | None = None,
    titles: list[str] | None = None,
    in_a_row: bool = False,
) -> list[Reading]:
    async def measure() -> list[Reading]:
        async with LoadClient(server.url) as client:
            turns = BenchTurns(
                client,
                calls([kind for way in ways for kind in way]),
                ways,
                loads,
                timing,
                in_a_row=in_a_row,
                reloads=reloads,
                on_phase=lambda title: None if titles is None else titles.append(title),
            )
            return await turns.take()

    return asyncio.run(measure())


def test_loads_and_ways_take_turns_and_the_order_of_ways_changes(running: BenchServer) -> None:
    titles: list[str] = []
    readings = take(running, [["logprobs"], [STOCK]], titles=titles)
    assert titles == [
        "warm up",
        "logprobs, 1 at once (1 of 2)",
        "stock, 1 at once (1 of 2)",
        "logprobs, 4 at once (1 of 2)",
        "stock, 4 at once (1 of 2)",
        "stock, 1 at once (2 of 2)",
        "logprobs, 1 at once (2 of 2)",
        "stock, 4 at once (2 of 2)",
        "logprobs, 4 at once (2 of 2)",
    ]
    assert [(each.way, each.repeat) for each in readings[:2]] == [("logprobs", 0), (STOCK, 0)]
    for each in readings:
        figures = each.figures
        assert figures.errors == 0
        assert figures.pairs > 0
        assert figures.latency is not None
        assert figures.latency.mean >= 0.002
        assert each.steps == {"queue": 0.0, "prefill": 1.0, "decode": 0.0}
        if each.way == "logprobs":
            assert figures.computed == pytest.approx(0.4 * figures.submitted)
        else:
            assert figures.reused == 0
    assert len(set(running.salts)) > 4  # no measurement found what another had left


def test_repeats_may_follow_each_other_without_a_pause(running: BenchServer) -> None:
    titles: list[str] = []
    one = (Load(concurrency=2),)
    readings = take(running, [["logprobs"]], loads=one, titles=titles, in_a_row=True)
    assert titles == ["warm up", "logprobs, 2 at once"]
    assert [each.repeat for each in readings] == [0, 1]
    counted = Timing(pairs=6, repeats=2)
    readings = take(running, [["logprobs"]], counted, one, in_a_row=True)
    assert [each.repeat for each in readings] == [0, 1]


def test_samples_and_generated_tokens_are_told(running: BenchServer) -> None:
    readings = take(running, [["logprobs", "uncertainty", "samples"]])
    by_way = {each.way: each.figures for each in readings}
    assert set(by_way) == {"logprobs", "uncertainty", "samples"}
    assert by_way["logprobs"].samples == by_way["logprobs"].generated == 0
    assert by_way["uncertainty"].generated == pytest.approx(by_way["uncertainty"].pairs)
    sampled = by_way["samples"]
    assert sampled.samples == pytest.approx(5 * sampled.pairs)
    assert sampled.generated == pytest.approx(11 * sampled.pairs)


def test_weights_are_loaded_by_turns_while_pairs_are_scored(running: BenchServer) -> None:
    checkpoints = ((Path("/a"), "v-a"), (Path("/b"), "v-b"))
    one = Timing(seconds=1.5, warm_up=0.05, repeats=1)  # three loads, on a busy machine too
    readings = take(
        running, [["logprobs"]], one, [Load(concurrency=2)], Reloads(checkpoints, every=0.05)
    )
    assert [each.way for each in readings] == ["logprobs", "reload"]
    assert running.loads[:3] == ["v-a", "v-b", "v-a"]
    loads = readings[1].figures
    assert loads.requests >= 3
    assert loads.pairs == 0
    assert loads.latency is not None
    assert loads.latency.p50 >= 0.02


def test_an_engine_that_takes_nothing_ends_it(running: BenchServer) -> None:
    running.fails = True
    with pytest.raises(EngineError, match=r"failed, the (first|last) one so: .*busy"):
        take(running, [["logprobs"]])


def test_both_routes_are_held_against_each_other(running: BenchServer) -> None:
    async def compare() -> float:
        async with LoadClient(running.url) as client:
            return await agreement(client, calls([STOCK]))

    assert asyncio.run(compare()) == pytest.approx(1e-6, rel=0.01)
