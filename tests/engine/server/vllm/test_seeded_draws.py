"""Generators of seeded requests, when a step takes only a part of a prompt."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from engine.server.vllm import seeded_draws


class State:
    """As much of a V1 runner as is looked at."""

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


class Runner(State):
    """As vLLM's: it turns generators of discarded draws back by an offset."""

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


def test_vllms_own_bookkeeping_gets_through() -> None:
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    class RealRunner(State):
        """With vLLM's own method."""

        _bookkeeping_sync: Any = GPUModelRunner._bookkeeping_sync
        use_async_scheduling = False
        max_model_len = 9

        def _to_list(self, tokens: torch.Tensor) -> list[list[int]]:
            return tokens.tolist()

        def _get_prompt_logprobs_dict(self, *_: Any) -> dict[str, Any]:
            return {}

    runner: Any = RealRunner([True, False], [0, 2])
    batch = runner.input_batch
    batch.req_id_to_index = {name: index for index, name in enumerate(batch.req_ids)}
    batch.num_tokens_no_spec = np.array([4, 6])
    batch.token_ids_cpu = np.zeros((2, 9), dtype=np.int32)
    batch.is_token_ids = np.zeros((2, 9), dtype=bool)
    sampled = SimpleNamespace(sampled_token_ids=torch.tensor([[3], [5]]), logprobs_tensors=None)
    step = SimpleNamespace(num_scheduled_tokens={})
    arguments = (step, sampled, None, torch.zeros(2, 1), 2)
    with pytest.raises(RuntimeError, match="CPU Generator does not use offset"):
        runner._bookkeeping_sync(*arguments)
    expected = draw(torch.Generator().manual_seed(0))
    draw(batch.generators[0])
    seeded_draws.install(runner)
    _, _, _, valid, *_ = runner._bookkeeping_sync(*arguments)
    assert valid == [[], [5]]
    assert draw(batch.generators[0]) == expected
    assert runner.requests["request 1"].output_token_ids == [7, 7, 5]
