"""Lets seeded requests live on a CPU when a step takes only a part of their prompt.

vLLM draws a token for such a request too, throws it away, and turns the request's generator back by
an offset, which generators of a CPU do not have: the engine dies. Here they are turned back before
vLLM looks at them: seeded again, and drawn from as often as the request has tokens.

This wraps one method of the V1 model runner.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from engine.server.vllm.patched_vllm import SEEDED_DRAWS, unfit

_STOCK = "_jostle_stock_bookkeeping"
_METHOD = "_bookkeeping_sync"


def install(runner: Any) -> str | None:
    """Wraps the method of the runner's class; why it was not done, or None. Safe to call again."""
    if reason := unfit(SEEDED_DRAWS):
        return reason
    kind = type(runner)
    if runner.device.type == "cpu" and not hasattr(kind, _STOCK):
        setattr(kind, _STOCK, getattr(kind, _METHOD))
        setattr(kind, _METHOD, _bookkeeping)
    return None


def _bookkeeping(self: Any, *arguments: Any, **more: Any) -> Any:
    generators: dict[int, torch.Generator] = self.input_batch.generators
    held: dict[int, torch.Generator] = {}
    for index in map(int, np.nonzero(self.discard_request_mask.np[: self.input_batch.num_reqs])[0]):
        if index in generators:
            held[index] = generators.pop(index)
            n_drawn = len(self.requests[self.input_batch.req_ids[index]].output_token_ids)
            turn_back(held[index], n_drawn)
    try:
        return getattr(self, _STOCK)(*arguments, **more)
    finally:
        generators.update(held)


def turn_back(generator: torch.Generator, n_drawn: int) -> None:
    """To where it stood after so many tokens; vLLM's sampler for CPUs draws one number for each."""
    generator.manual_seed(generator.initial_seed())
    for _ in range(n_drawn):
        torch.randint(0, 2**31, (1,), generator=generator, dtype=torch.long)
