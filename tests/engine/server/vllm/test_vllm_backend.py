"""What is asked of vLLM for a pair, and what is read from its answer."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm.exceptions import MaxQueuedTokensError, QueueOverflowError
from vllm.logprobs import FlatLogprobs
from vllm.v1.engine.exceptions import EngineGenerateError

from engine.errors import EngineError
from engine.questions.backend import Scored
from engine.server.vllm import shared_tails, vllm_backend
from engine.server.vllm.output_rows import COUNT_MARK, MARK, of_targets
from engine.server.vllm.pair_paths import SampledLast
from engine.server.vllm.vllm_backend import Extensions, VllmBackend


def flat(*positions: list[tuple[int, float, int]]) -> FlatLogprobs:
    """Rows of (token id, log-probability, rank)."""
    rows = FlatLogprobs()
    for position in positions:
        token_ids, logprobs, ranks = zip(*position, strict=True)
        rows.append_fast(
            list(token_ids), list(logprobs), itertools.chain(ranks), [None] * len(token_ids)
        )
    return rows


class Client:
    """Gives one answer."""

    def __init__(self, prompt_rows: FlatLogprobs | None, sampled: FlatLogprobs) -> None:
        self.answer = SimpleNamespace(
            finished=True,
            num_cached_tokens=1,
            prompt_logprobs=prompt_rows,
            outputs=[SimpleNamespace(logprobs=sampled, finish_reason="length")],
        )
        self.asked: list[Any] = []
        self.salts: list[str] = []
        self.renderer = SimpleNamespace(get_tokenizer=lambda: None)
        self.vllm_config = SimpleNamespace(
            kv_transfer_config=None,
            use_v2_model_runner=False,
            speculative_config=None,
            model_config=SimpleNamespace(max_model_len=100, dtype="torch.bfloat16"),
            device_config=SimpleNamespace(device_type="cpu"),
            scheduler_config=SimpleNamespace(max_num_seqs=4, max_num_queued_reqs=None),
            parallel_config=SimpleNamespace(local_engines_only=True, data_parallel_size_local=1),
        )

    async def generate(self, prompt: Any, params: Any, **_: Any) -> AsyncIterator[Any]:
        self.asked.append((prompt["prompt_token_ids"], params))
        self.salts.append(prompt["cache_salt"])
        yield self.answer


def score(client: Any, output: tuple[int, ...]) -> Scored:
    return asyncio.run(VllmBackend(client, "salt").score((1, 2, 3), output, "a pair", 0))


@pytest.mark.parametrize(
    ("sampled", "greedy"),
    [
        ([(9, -0.5, 1), (6, -0.75, 1)], False),
        ([(6, -0.5, 1), (6, -0.5, 1)], True),
        ([(9, -0.5, 2), (6, -0.5, 1)], True),  # a tie
    ],
)
def test_a_token_is_greedy_if_none_is_likelier(
    sampled: list[tuple[int, float, int]], greedy: bool
) -> None:
    prompt_rows = flat([(3, -4.0, 7)], [(4, -0.25, 1)], [(5, -3.0, 2)])
    client = Client(prompt_rows, flat(sampled))
    scored = score(client, (4, 5, 6))
    assert scored.token_logprobs == (-0.25, -3.0, sampled[1][1])
    assert scored.is_greedy == (True, False, greedy)
    ((submitted, params),) = client.asked
    assert (submitted, params.logprob_token_ids) == ([1, 2, 3, 4, 5], [6])


def test_an_aborted_request_is_no_fault_of_its_pair() -> None:
    client = Client(None, flat([(6, -0.5, 1), (6, -0.5, 1)]))
    client.answer.outputs[0].finish_reason = "abort"
    with pytest.raises(EngineGenerateError, match="a pair: the engine aborted") as caught:
        score(client, (6,))
    assert not isinstance(caught.value, EngineError), "which --skip-faulty skips"


def test_an_output_of_one_token_needs_no_prompt_rows() -> None:
    client = Client(None, flat([(6, -0.5, 1), (6, -0.5, 1)]))
    assert score(client, (6,)).is_greedy == (True,)
    assert client.asked[0][1].prompt_logprobs is None


def test_what_samples_go_on_from_fills_blocks() -> None:
    """The token that would be sampled last is a row of the prompt then."""
    prompt_rows = flat(*[[(token, -float(token), 1)] for token in (2, 3, 4, 5, 6, 6, 6)])
    client: Any = Client(prompt_rows, flat([(9, -0.5, 1)]))
    client.vllm_config.cache_config = SimpleNamespace(block_size=8)
    backend = VllmBackend(client, "salt", extensions=Extensions(True, True))
    scored = asyncio.run(backend.score((1, 2, 3), (4, 5, 6), "a pair", 0, continued=True))
    assert scored.token_logprobs == (-4.0, -5.0, -6.0)
    assert (scored.n_submitted, scored.is_greedy) == (8, (True, True, True))
    ((submitted, params),) = client.asked
    assert submitted == [1, 2, 3, 4, 5, 6, 6, 6]
    assert params.logprob_token_ids is None
    assert params.extra_args == {shared_tails.MARK: 2, MARK: 2, COUNT_MARK: 3}


@pytest.mark.parametrize(
    ("output", "block", "longest", "submitted"),
    [
        ((4, 5, 6), 5, 100, (1, 2, 3, 4, 5)),  # full as it is
        ((4, 5, 6), 6, 100, (1, 2, 3, 4, 5, 6)),
        ((4,), 3, 100, (1, 2, 3)),
        ((4,), 4, 100, (1, 2, 3, 4)),
        ((4, 5, 6), 8, 8, (1, 2, 3, 4, 5)),  # no room for a block
    ],
)
def test_blocks_are_filled_where_there_is_room(
    output: tuple[int, ...], block: int, longest: int, submitted: tuple[int, ...]
) -> None:
    path = SampledLast(ours=True, block=block, longest=longest)
    tokens, params = path.ask((1, 2, 3), output, {})
    assert tokens == submitted
    assert (params.prompt_logprobs is None) == (len(tokens) == 3)


def test_values_of_targets_are_those_of_torch() -> None:
    logits = torch.randn(50, 300, generator=torch.Generator().manual_seed(0)) * 5
    targets = torch.arange(50)
    targets[:7] = logits[:7].argmax(dim=-1)
    logprobs, below = of_targets(logits, targets).unbind(dim=-1)
    expected = logits.double().log_softmax(dim=-1)[torch.arange(50), targets]
    assert (logprobs - expected).abs().max() < 1e-5
    assert ((below == 0) == (logits.argmax(dim=-1) == targets)).all()
    assert of_targets(logits.bfloat16(), targets).dtype == torch.float32


def test_a_second_reading_reads_no_cache_of_the_first() -> None:
    client: Any = Client(None, flat([(6, -0.5, 1), (6, -0.5, 1)]))
    backend = VllmBackend(client, "salt")
    assert backend.precision == "bfloat16"

    async def both() -> None:
        await backend.score((1, 2, 3), (6,), "a pair", 0, again=True)
        await backend.score((1, 2, 3), (6,), "a pair", 0)

    asyncio.run(both())
    assert client.salts == ["salt/again", "salt"]


def test_candidates_are_chosen_ids_of_the_token_that_is_sampled() -> None:
    wanted = tuple(range(130))  # vLLM takes 128 at once
    everything = [(9, -0.1, 1), *((token, -float(token), 1) for token in wanted)]
    client: Any = Client(None, flat(everything))
    found = asyncio.run(VllmBackend(client, "salt").candidates((1, 2, 3), wanted, "a place", 0))
    assert found.token_logprobs == tuple(-float(token) if token != 9 else -0.1 for token in wanted)
    assert [params.logprob_token_ids for _, params in client.asked] == [
        [*wanted[:128]],
        [*wanted[128:]],
    ]
    assert {tuple(prompt) for prompt, _ in client.asked} == {(1, 2, 3)}
    assert (found.n_submitted, found.n_reused) == (6, 2)


def test_an_engine_with_drafts_scores_the_last_token_as_a_row_of_the_prompt() -> None:
    """For the token that it samples it tells nothing of chosen ids."""
    prompt_rows = flat(*[[(token, -float(token), 1)] for token in (2, 3, 4, 5, 6)])
    client: Any = Client(prompt_rows, flat())
    client.vllm_config.speculative_config = object()
    scored = score(client, (4, 5, 6))
    assert (scored.token_logprobs, scored.is_greedy) == ((-4.0, -5.0, -6.0), (True,) * 3)
    assert client.asked[0][0] == [1, 2, 3, 4, 5, 6]
    assert score(client, (6,)).token_logprobs == (-6.0,)
    assert not VllmBackend(client, "salt").tells_candidates


def test_a_last_token_that_the_engine_tells_nothing_of_is_told() -> None:
    with pytest.raises(EngineError, match="a pair"):
        score(Client(None, flat()), (6,))


@pytest.mark.parametrize("full", [QueueOverflowError, MaxQueuedTokensError])
def test_a_full_queue_of_the_engine_is_waited_for(
    full: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm_backend, "_FULL_SECONDS", 0.001)

    class Full(Client):
        """Refuses twice."""

        refused = 0

        async def generate(self, prompt: Any, params: Any, **named: Any) -> AsyncIterator[Any]:
            if self.refused < 2:
                self.refused += 1
                raise full
            async for answer in super().generate(prompt, params, **named):
                yield answer

    client: Any = Full(None, flat([(6, -0.5, 1), (6, -0.5, 1)]))
    assert score(client, (6,)).token_logprobs == (-0.5,)
    assert client.refused == 2
    assert VllmBackend(client, "salt").max_in_flight == 8
    client.vllm_config.scheduler_config.max_num_queued_reqs = 3
    assert VllmBackend(client, "salt").max_in_flight == 3
