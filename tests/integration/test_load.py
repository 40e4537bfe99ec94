"""Many clients while weights change under them: no answer is lost, none mixes two sets."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from typing import Any

import pytest

from engine.client.async_client import AsyncEngineClient
from engine.process.engine_process import EngineProcess
from engine.protocol.completions import TokenPair
from tests.integration.reference import Reference, published_change

pytestmark = [pytest.mark.integration, pytest.mark.long]

CLIENTS = 64
SWAPS = 24
PAUSE_SECONDS = 2.0  # between two swaps
PAIRS_PER_REQUEST = 2  # a swap waits for 64 requests that are under way
N_PAIRS = 48

Expected = dict[str, list[list[float]]]


def some_pairs(rng: random.Random) -> list[TokenPair]:
    prefixes = [tuple(rng.randrange(1000, 9000) for _ in range(40)) for _ in range(6)]
    return [
        TokenPair(
            prompt_token_ids=rng.choice(prefixes)
            + tuple(rng.randrange(1000, 9000) for _ in range(rng.randrange(1, 20))),
            completion_token_ids=tuple(rng.randrange(1000, 9000) for _ in range(1 + index % 8)),
        )
        for index in range(N_PAIRS)
    ]


async def ask_on(
    url: str, pairs: list[TokenPair], expected: Expected, seed: int, swapping: asyncio.Task[Any]
) -> tuple[dict[str, int], float]:
    """Answers per version, and the largest difference from transformers' value for it."""
    rng = random.Random(seed)
    counts, worst = dict.fromkeys(expected, 0), 0.0
    async with AsyncEngineClient(url) as client:
        while not swapping.done():
            chosen = rng.sample(range(len(pairs)), PAIRS_PER_REQUEST)
            answer = await client.completion_logprobs(
                [pairs[index] for index in chosen], tokens=True
            )
            counts[answer.weights_version] += 1
            for index, result in zip(chosen, answer.results, strict=True):
                assert result.token_logprobs
                true = expected[answer.weights_version][index]
                differences = map(lambda a, b: abs(a - b), true, result.token_logprobs)
                worst = max(worst, *differences)
    return counts, worst


async def swap_on(url: str, checkpoints: dict[str, Path]) -> list[float]:
    """Seconds of every swap."""
    seconds: list[float] = []
    async with AsyncEngineClient(url) as client:
        for version, folder in [*checkpoints.items()] * (SWAPS // len(checkpoints)):
            started = time.monotonic()
            state = await client.load_weights(folder, version)
            assert state.version == version
            seconds.append(time.monotonic() - started)
            await asyncio.sleep(PAUSE_SECONDS)
    return seconds


def test_64_clients_while_weights_change(
    server: EngineProcess, base: Reference, weights_root: Path
) -> None:
    pairs = some_pairs(random.Random(4))
    expected: Expected = {}
    checkpoints: dict[str, Path] = {}
    for seed in (41, 42):
        folder, manifest, model = published_change(base, weights_root, seed)
        checkpoints[manifest.version] = folder
        expected[manifest.version] = [
            model.token_logprobs(pair.prompt_token_ids, pair.completion_token_ids) for pair in pairs
        ]
    one, other = expected.values()
    apart = min(max(map(lambda a, b: abs(a - b), *both)) for both in zip(one, other, strict=True))

    async def run() -> tuple[list[tuple[dict[str, int], float]], list[float]]:
        async with AsyncEngineClient(server.url) as client:
            await client.load_weights(*next((f, v) for v, f in checkpoints.items()))
        swapping = asyncio.create_task(swap_on(server.url, checkpoints))
        asking = (ask_on(server.url, pairs, expected, seed, swapping) for seed in range(CLIENTS))
        return await asyncio.gather(*asking), await swapping

    answers, swaps = asyncio.run(run())
    totals = {version: sum(counts[version] for counts, _ in answers) for version in expected}
    worst = max(difference for _, difference in answers)
    print(
        f"{CLIENTS} clients: {totals} answers, {len(swaps)} swaps of "
        f"{sorted(swaps)[len(swaps) // 2]:.1f} s (median), largest difference {worst:.1e}, "
        f"the two sets are at least {apart:.1e} apart"
    )
    assert len(swaps) == SWAPS
    assert all(sum(counts.values()) for counts, _ in answers), "nobody was starved"
    assert all(totals.values())
    assert worst < 1e-3 < apart
