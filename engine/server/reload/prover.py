"""Whether an engine holds the weights that it was told to load, found out by asking it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import zip_longest

import numpy as np
from vllm.engine.protocol import EngineClient

from engine.errors import EngineError
from engine.questions.pair_plan import check_fits
from engine.server.reload.live_record import Proof
from engine.server.vllm.rounding import (
    Logprobs,
    Rounding,
    engine_dtype,
    engine_precision,
    rounding,
)
from engine.server.vllm.vllm_backend import VllmBackend
from engine.weights.manifest import Probe

_UNLIKELY = 3.0
"""Random tokens are unlikely ones, whose log-probabilities rounding moves further."""

_NOTHING = 1e-6
"""Mean difference, in nats, of answers of the same weights: none, where pairs are alone."""


class Prover:
    """Asks one engine for probes.

    Args:
        backend: Makes a backend with a cache salt.
    """

    def __init__(self, client: EngineClient, backend: Callable[[str], VllmBackend]) -> None:
        self._client, self._backend = client, backend

    async def ask(
        self, probes: Sequence[Probe], when: str, *, together: bool = False
    ) -> list[Logprobs]:
        """The probes' log-probabilities on each replica.

        Args:
            when: For error messages.
            together: Whether to ask for all of them at once; one after the other they are the same
                to the last bit under the same weights, in other company they are rounded otherwise.

        Raises:
            InputError: If one is too long for the model's context.
            EngineError: If the engine fails.
        """
        # A salt of its own for every look: blocks of other weights must never be read.
        backend = self._backend(f"probe/{time.monotonic_ns()}")
        for index, probe in enumerate(probes):
            n_tokens = len(probe.prompt_token_ids) + len(probe.completion_token_ids)
            check_fits(n_tokens, backend.max_model_len, f"probe {index}")

        async def one(index: int, replica: int) -> tuple[float, ...]:
            prompt, completion = probes[index].prompt_token_ids, probes[index].completion_token_ids
            scored = await backend.score(prompt, completion, f"probe {index} {when}", replica)
            return scored.token_logprobs

        async def on(replica: int) -> Logprobs:
            if together:
                return await asyncio.gather(*(one(index, replica) for index in range(len(probes))))
            return [await one(index, replica) for index in range(len(probes))]

        return await asyncio.gather(*map(on, range(backend.n_replicas)))

    async def check(self, proof: Proof, when: str, before: Sequence[Logprobs] = ()) -> None:
        """That every replica gives the log-probabilities expected, and not those from before.

        Where nobody vouches for any, the probes asked one by one and all at once have to agree, and
        to differ from before.

        Raises:
            EngineError: If not.
        """
        measured = await self.ask(proof.probes, when)
        rule = rounding(proof.dtype, engine_precision(self._client.vllm_config))
        if proof.vouched:
            expected = [probe.token_logprobs for probe in proof.probes]
            faults = [rule.fault(expected, *pair) for pair in zip_longest(measured, before)]
            told = "what these weights ought to give"
        else:
            together = await self.ask(proof.probes, when, together=True)
            sets = zip_longest(together, measured, before)
            faults = [_own_fault(rule, *each) for each in sets]
            told = "what the same engine says of them"
        for fault in filter(None, faults):
            raise EngineError(f"{when} the probe pairs differ from {told}: they {fault}")

    def changed(self, before: Sequence[Logprobs], again: Sequence[Logprobs]) -> str | None:
        """What is wrong with weights that were loaded again; None if nothing is."""
        rule = rounding(engine_precision(self._client.vllm_config))
        faults = map(rule.fault, before, again)
        return next(filter(None, faults), None)

    def proof_of_live(self, probes: Sequence[Probe], measured: Logprobs) -> Proof:
        """Of live weights, by what the engine gives the probes of others."""
        own = [
            probe.model_copy(update={"token_logprobs": tuple(logprobs)})
            for probe, logprobs in zip(probes, measured, strict=True)
        ]
        return Proof(dtype=engine_dtype(self._client.vllm_config), probes=tuple(own))

    def proof_of_nobody(self) -> Proof:
        """Random pairs, for weights of which nothing is known."""
        rng = random.Random(0)
        top = self._client.vllm_config.model_config.get_vocab_size()

        def draw(n: int) -> tuple[int, ...]:
            return tuple(rng.randrange(top) for _ in range(n))

        probes = tuple(
            Probe(
                prompt_token_ids=draw(8 + 4 * number),
                completion_token_ids=draw(4),
                token_logprobs=(0.0,) * 4,
            )
            for number in range(8)
        )
        dtype = engine_dtype(self._client.vllm_config)
        return Proof(dtype=dtype, probes=probes, vouched=False)


def _own_fault(
    rule: Rounding, together: Logprobs, alone: Logprobs, before: Logprobs | None
) -> str | None:
    wide = replace(rule, mean=rule.mean * _UNLIKELY)
    if fault := wide.fault(together, alone):
        return fault
    if before is None:
        return None
    moved = np.abs(np.concatenate(list(alone)) - np.concatenate(list(before))).mean()
    return "are those of the weights before" if moved < _NOTHING else None
