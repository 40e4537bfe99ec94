"""Switches the output-rows-only path on at start-up, if it gives the stock path's numbers."""

from __future__ import annotations

import logging
import os
import random

from vllm.engine.protocol import EngineClient

from engine.errors import EngineError
from engine.server.backend import VllmBackend
from engine.server.worker import OUTPUT_ROWS_METHOD

logger = logging.getLogger("vllm.jostle")

OUTPUT_ROWS_VARIABLE = "JOSTLE_OUTPUT_ROWS"
"""Environment variable: `0` leaves the stock path on, to compare with it."""

_TOLERANCE = {"float32": 1e-4}
_HALF_TOLERANCE = 0.1


async def enable_output_rows(client: EngineClient) -> bool:
    """Whether scoring may use the output-rows-only path; one warning if it may not.

    The V2 runner needs none of it: it scores chosen rows by itself.
    """
    config = client.vllm_config
    if config.use_v2_model_runner or os.environ.get(OUTPUT_ROWS_VARIABLE) == "0":
        return False
    reasons = await client.collective_rpc(OUTPUT_ROWS_METHOD, args=(True,))
    reason = next((reason for reason in reasons if reason), None)
    if reason is None:
        reason = await _compare(client)
    if reason is None:
        return True
    await client.collective_rpc(OUTPUT_ROWS_METHOD, args=(False,))
    logger.warning("all prompt rows get logits, which is slower: %s", reason)
    return False


async def _compare(client: EngineClient) -> str | None:
    """Scores random pairs both ways; what is wrong, or None."""
    rng = random.Random(0)
    top = client.vllm_config.model_config.get_vocab_size()
    dtype = str(client.vllm_config.model_config.dtype).removeprefix("torch.")
    tolerance = _TOLERANCE.get(dtype, _HALF_TOLERANCE)
    salt = f"self-test/{rng.random()}"
    stock = VllmBackend(client, salt, output_rows_only=False)
    ours = VllmBackend(client, salt, output_rows_only=True)
    for n_prompt, n_output in ((7, 1), (70, 2), (70, 9)):
        prompt = tuple(rng.randrange(top) for _ in range(n_prompt))
        output = tuple(rng.randrange(top) for _ in range(n_output))
        try:
            expected = await stock.score(prompt, output, "self-test", 0)
            measured = await ours.score(prompt, output, "self-test", 0)
        except EngineError as error:
            return f"the self-test failed: {error}"
        worst = max(
            abs(a - b)
            for a, b in zip(expected.token_logprobs, measured.token_logprobs, strict=True)
        )
        if worst > tolerance:
            return f"the self-test is off by {worst:.3g}"
    return None
