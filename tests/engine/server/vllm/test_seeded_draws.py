"""Generators of seeded requests, when a step takes only a part of a prompt."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from engine.server.vllm import seeded_draws


class Runner:
    """As vLLM's V1 runner: it turns generators of discarded draws back by an offset."""

    def __init__(self, discarded: list[bool], n_tokens: list[int]) -> None:
        self.device = torch.device("cpu")
        self.discard_request_mask = SimpleNamespace(np=np.array([*discarded, True]))
        names = [f"request {index}" for index in range(len(discarded))]
        self.requests = {
            name: SimpleNamespace(output_token_ids=[7] * count)
            for name, count in zip(names, n_tokens, strict=True)
        }
        self.input_batch = SimpleNamespace(
            num_reqs=len(discarded),
            req_ids=names,
            generators={
                index: torch.Generator().manual_seed(index) for index in range(len(discarded))
            },
        )

    def _bookkeeping_sync(self, answer: str) -> str:
        batch = self.input_batch
        for index in np.nonzero(self.discard_request_mask.np[: batch.num_reqs])[0]:
            generator = batch.generators.get(int(index))
            if generator is not None:
                generator.set_offset(generator.get_offset() - 4)
        return answer


def draw(generator: torch.Generator) -> int:
    return int(torch.randint(0, 2**31, (1,), generator=generator, dtype=torch.long))


def test_a_prompt_that_is_cut_changes_no_draw() -> None:
    runner: Any = Runner([True, False, True], [0, 2, 3])
    whole = [torch.Generator().manual_seed(index) for index in range(3)]
    expected = [[draw(each) for _ in range(6)] for each in whole]
    generators = runner.input_batch.generators
    drawn = [
        [draw(generators[index]) for _ in range(count)] for index, count in enumerate((0, 2, 3))
    ]
    thrown_away = [draw(generators[0]), draw(generators[2])]
    assert thrown_away == [expected[0][0], expected[2][3]]
    with pytest.raises(RuntimeError, match="offset"):
        runner._bookkeeping_sync("stock")
    assert seeded_draws.install(runner) is None
    assert seeded_draws.install(runner) is None
    assert runner._bookkeeping_sync("answer") == "answer"
    assert runner.input_batch.generators is generators
    assert sorted(generators) == [0, 1, 2]
    for index in range(3):
        drawn[index] += [draw(generators[index]) for _ in range(6 - len(drawn[index]))]
    assert drawn == expected
