"""Many clients while weights change under them: no answer is lost, none mixes two sets."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from engine.client.async_client import AsyncEngineClient
from engine.process.engine_process import EngineProcess
from engine.protocol.completions import TokenPair
from tests.integration.reference import Reference, published_change

pytestmark = [pytest.mark.integration, pytest.mark.long]

CLIENTS = 64
COMPLETING = 16  # of them ask vLLM's own route
SWAPS = 24
PAUSE_SECONDS = 2.0  # between two swaps
PAIRS_PER_REQUEST = 2  # a swap waits for 64 requests that are under way
N_PAIRS = 48
N_TOKENS = 6  # of a completion

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
                worst = max(worst, distance(true, result.token_logprobs))
    return counts, worst


def greedy(model: Reference, prompt: Sequence[int]) -> list[float]:
    """Log-probabilities of what transformers generates."""
    ids, values = list(prompt), []
    for _ in range(N_TOKENS):
        with torch.inference_mode():
            row = model.model(torch.tensor([ids]), logits_to_keep=1).logits[0, -1].log_softmax(-1)
        ids.append(int(row.argmax()))
        values.append(float(row.max()))
    return values


async def complete_on(
    url: str,
    model: str,
    prompts: Sequence[Sequence[int]],
    expected: Expected,
    seed: int,
    swapping: asyncio.Task[Any],
) -> dict[str, int]:
    """Completions of vLLM's own route per version, told by their values alone."""
    rng = random.Random(seed)
    counts = dict.fromkeys(expected, 0)
    async with httpx.AsyncClient(base_url=url, timeout=120, trust_env=False) as client:
        while not swapping.done():
            index = rng.randrange(len(prompts))
            body = {
                "model": model,
                "prompt": list(prompts[index]),
                "max_tokens": N_TOKENS,
                "temperature": 0,
                "logprobs": 0,
                "ignore_eos": True,
            }
            answer = await client.post("/v1/completions", json=body)
            assert answer.status_code == 200, answer.text
            found = answer.json()["choices"][0]["logprobs"]["token_logprobs"]
            (version,) = [
                version
                for version, values in expected.items()
                if found == pytest.approx(values[index], abs=1e-3)
            ]
            counts[version] += 1
    return counts


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
    prompts = [pair.prompt_token_ids for pair in pairs[:12]]
    expected: Expected = {}
    generated: Expected = {}
    checkpoints: dict[str, Path] = {}
    for seed in (41, 42):
        folder, manifest, model = published_change(base, weights_root, seed)
        checkpoints[manifest.version] = folder
        expected[manifest.version] = [
            model.token_logprobs(pair.prompt_token_ids, pair.completion_token_ids) for pair in pairs
        ]
        generated[manifest.version] = [greedy(model, prompt) for prompt in prompts]
    apart = min(map(distance, *expected.values()))
    assert min(map(distance, *generated.values())) > 1e-2

    async def run() -> tuple[list[dict[str, int]], list[tuple[dict[str, int], float]], list[float]]:
        async with AsyncEngineClient(server.url) as client:
            await client.load_weights(*next((f, v) for v, f in checkpoints.items()))
        swapping = asyncio.create_task(swap_on(server.url, checkpoints))
        name = str(base.folder)
        completing = [
            complete_on(server.url, name, prompts, generated, seed, swapping)
            for seed in range(COMPLETING)
        ]
        scoring = [
            ask_on(server.url, pairs, expected, seed, swapping)
            for seed in range(CLIENTS - COMPLETING)
        ]
        completed, scored = await asyncio.gather(
            asyncio.gather(*completing), asyncio.gather(*scoring)
        )
        return completed, scored, await swapping

    completions, answers, swaps = asyncio.run(run())
    worst = max(difference for _, difference in answers)
    counted = {"scored": [counts for counts, _ in answers], "completed": completions}
    totals = {
        way: {version: sum(each[version] for each in counts) for version in expected}
        for way, counts in counted.items()
    }
    print(
        f"{CLIENTS} clients: {totals} answers, {len(swaps)} swaps of "
        f"{sorted(swaps)[len(swaps) // 2]:.1f} s (median), largest difference {worst:.1e}, "
        f"the two sets are at least {apart:.1e} apart"
    )
    assert len(swaps) == SWAPS
    for way, counts in counted.items():
        assert all(sum(each.values()) for each in counts), "nobody was starved"
        assert all(totals[way].values())
    assert worst < 1e-3 < apart


def distance(one: Sequence[float], other: Sequence[float]) -> float:
    """The largest difference."""
    return max(map(lambda a, b: abs(a - b), one, other))
