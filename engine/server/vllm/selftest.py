"""Switches our extensions of vLLM on at start-up, each if it gives the stock path's numbers."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from vllm.engine.protocol import EngineClient
from vllm.v1.engine.exceptions import EngineGenerateError

from engine.errors import EngineError, InputError
from engine.process.settings import OUTPUT_ROWS_VARIABLE, SHARED_TAILS_VARIABLE
from engine.questions.backend import Scored
from engine.server.vllm.rounding import engine_precision, rounding
from engine.server.vllm.vllm_backend import Extensions, VllmBackend
from engine.server.vllm.worker import (
    OUTPUT_ROWS_METHOD,
    SEEDED_DRAWS_METHOD,
    SHARED_TAILS_METHOD,
)

logger = logging.getLogger("vllm.jostle")

_EXACT = 1e-4
_UNLIKELY, _WORST = 3.0, 1.5
"""Random tokens are unlikely ones, whose log-probabilities rounding moves further: the mean may be
so many times as large, and no token off by twice what was ever read. A wrong row or block moves
them by whole nats."""


async def enable_extensions(client: EngineClient) -> Extensions:
    """The extensions that scoring may use here; one warning for each that it may not.

    Raises:
        InputError: If the log-probability of a token changes by what follows it (the model reads a
            prompt in both directions), or by what else is computed at once (vLLM 0.32 does so on
            CPUs for latent attention, as DeepSeek's).
    """
    if client.vllm_config.use_v2_model_runner:
        await _warm_up(client)
    elif client.vllm_config.device_config.device_type == "cpu":
        for reason in filter(None, await client.collective_rpc(SEEDED_DRAWS_METHOD)):
            logger.warning("a seeded request whose prompt is cut ends the engine: %s", reason)
    output_rows = await _enable_output_rows(client)
    await _check_numbers(client, output_rows=output_rows)
    return Extensions(output_rows, await _enable_shared_tails(client, output_rows=output_rows))


async def _warm_up(client: EngineClient) -> None:
    """Has the V2 runner compile the kernels of its first pair and of its first greedy output."""
    rng, top, salt = _sample(client)
    prompt = tuple(rng.randrange(top) for _ in range(7))
    backend = VllmBackend(client, salt)

    async def warm_up(rank: int) -> None:
        await backend.score(prompt, prompt[:2], "warm-up", rank)
        await backend.generate(prompt, 2, prompt[0], "warm-up", rank)

    await asyncio.gather(*map(warm_up, range(backend.n_replicas)))


async def _check_numbers(client: EngineClient, *, output_rows: bool) -> None:
    """Scores two outputs that begin alike, one after the other, then both twice at once.

    A server is refused for what no precision explains, so the coarsest one judges.
    """
    rng, top, salt = _sample(client)
    prompt, shared, *ends = (tuple(rng.randrange(top) for _ in range(n)) for n in (7, 16, 8, 8))

    async def score(end: tuple[int, ...], turn: int) -> Scored:
        backend = VllmBackend(client, f"{salt}/{turn}/{end}", extensions=Extensions(output_rows))
        return await backend.score(prompt, shared + end, "self-test", 0)

    try:
        alone = [await score(end, 0) for end in ends]
        beside = await asyncio.gather(*(score(end, turn) for turn in (1, 2) for end in ends))
    except (EngineError, EngineGenerateError):
        return  # what is wrong with scoring is told where somebody scores
    begin = [replace(each, token_logprobs=each.token_logprobs[: len(shared)]) for each in alone]
    name = client.vllm_config.model_config.model
    if fault := _difference("bfloat16", begin[:1], begin[1:]):
        problem = f"the model reads a prompt in both directions ({fault} by what follows)"
        raise InputError(f"{problem}; nothing in it can be scored", file=name)
    if fault := _difference("bfloat16", alone * 2, beside):
        problem = (
            f"vLLM computes wrong numbers where it computes several requests at once ({fault})"
        )
        raise InputError(f"{problem}; nothing can be scored here", file=name)


async def _enable_output_rows(client: EngineClient) -> bool:
    if os.environ.get(OUTPUT_ROWS_VARIABLE) == "0":
        return False
    reasons = await client.collective_rpc(OUTPUT_ROWS_METHOD, args=(True,))
    reason = next((reason for reason in reasons if reason), None)
    if reason is None:
        reason = await _on_all_ranks(client, _compare_rows)
    if reason is None:
        return True
    await client.collective_rpc(OUTPUT_ROWS_METHOD, args=(False,))
    logger.warning("rows of output tokens are scored vLLM's way, which is slower: %s", reason)
    return False


async def _enable_shared_tails(client: EngineClient, *, output_rows: bool) -> bool:
    transfer = client.vllm_config.kv_transfer_config
    if transfer is None or transfer.kv_connector != "SharedTails":
        return False
    if os.environ.get(SHARED_TAILS_VARIABLE) == "0":
        return False
    reasons = await client.collective_rpc(SHARED_TAILS_METHOD)
    reason = next((reason for reason in reasons if reason), None)
    if reason is None:
        compare = functools.partial(_compare_tails, output_rows=output_rows)
        reason = await _on_all_ranks(client, compare)
    if reason is None:
        return True
    logger.warning("prefixes are shared in whole blocks only, which is slower: %s", reason)
    return False


async def _on_all_ranks(
    client: EngineClient, compare: Callable[[EngineClient, int], Awaitable[str | None]]
) -> str | None:
    """What is wrong on the first of the data-parallel ranks where anything is, or None.

    vLLM tells what a method of the workers returned on one rank only, so each is asked for numbers.
    """
    ranks = range(VllmBackend(client, "").n_replicas)
    reasons = await asyncio.gather(*(compare(client, rank) for rank in ranks))
    found = [(rank, reason) for rank, reason in enumerate(reasons) if reason]
    if not found:
        return None
    rank, reason = found[0]
    return reason if len(ranks) == 1 else f"rank {rank}: {reason}"


async def _compare_rows(client: EngineClient, rank: int) -> str | None:
    """Scores random pairs with logits for all rows and for output rows; what is wrong, or None."""
    rng, top, salt = _sample(client)
    stock = VllmBackend(client, salt)
    ours = VllmBackend(client, salt, extensions=Extensions(output_rows=True))
    expected, measured = [], []
    try:
        for n_prompt, n_output in ((7, 1), (70, 2), (70, 33)):
            prompt = tuple(rng.randrange(top) for _ in range(n_prompt))
            output = tuple(rng.randrange(top) for _ in range(n_output))
            expected.append(await stock.score(prompt, output, "self-test", rank))
            measured.append(await ours.score(prompt, output, "self-test", rank))
    except (EngineError, EngineGenerateError) as error:
        return f"the self-test failed: {error}"
    return _difference(engine_precision(client.vllm_config), expected, measured)


async def _compare_tails(client: EngineClient, rank: int, *, output_rows: bool) -> str | None:
    """Scores pairs whose prefix ends inside a block, in one step and later; what is wrong."""
    rng, top, salt = _sample(client)
    size = client.vllm_config.cache_config.block_size
    prefix = tuple(rng.randrange(top) for _ in range(size + size // 2))
    pairs = [
        (prefix + tuple(rng.randrange(top) for _ in range(size)), (rng.randrange(top),) * 2)
        for _ in range(4)
    ]
    alone = [
        VllmBackend(client, f"{salt}/{number}", extensions=Extensions(output_rows=output_rows))
        for number in range(len(pairs))
    ]
    ours = VllmBackend(client, salt, extensions=Extensions(output_rows, shared_tails=True))
    try:
        expected = [
            await backend.score(prompt, output, "self-test", rank)
            for backend, (prompt, output) in zip(alone, pairs, strict=True)
        ]
        together = [ours.score(prompt, output, "self-test", rank) for prompt, output in pairs[:-1]]
        measured = await asyncio.gather(*together)
        measured.append(await ours.score(*pairs[-1], "self-test", rank))
    except (EngineError, EngineGenerateError) as error:
        return f"the self-test failed: {error}"
    if measured[-1].n_reused != len(prefix):
        return f"{measured[-1].n_reused} of {len(prefix)} tokens were shared"
    return _difference(engine_precision(client.vllm_config), expected, measured)


def _sample(client: EngineClient) -> tuple[random.Random, int, str]:
    """Random numbers, the size of the vocabulary, and a salt that no other request uses."""
    rng = random.Random(0)
    top = client.vllm_config.model_config.get_vocab_size()
    return rng, top, f"self-test/{random.random()}"


def _difference(
    precision: str, expected: Sequence[Scored], measured: Sequence[Scored]
) -> str | None:
    rule = rounding(precision)
    if rule.name == "float32":
        rule = replace(rule, worst=_EXACT)
    else:
        rule = replace(rule, mean=rule.mean * _UNLIKELY, worst=_WORST)
    fault = rule.fault(*([each.token_logprobs for each in some] for some in (expected, measured)))
    return f"the self-test's log-probabilities {fault}" if fault else None
