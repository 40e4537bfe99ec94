"""Rows of output tokens on the V2 runner, by vLLM's own object and the one in its place."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from vllm.lora.layers.logits_processor import LogitsProcessorWithLoRA
from vllm.sampling_params import SamplingParams
from vllm.v1.worker.gpu.sample import prompt_logprob
from vllm.v1.worker.gpu.sample.prompt_logprob import PromptLogprobsWorker

from engine.server.vllm import output_rows_v2
from engine.server.vllm.output_rows import MARK, OUTPUT_MARK, without_adapters
from engine.server.vllm.output_rows_v2 import OutputRowsWorker

VOCABULARY, WIDTH = 50, 8


def plain_logprobs(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """What vLLM's Triton kernel computes."""
    return logits.log_softmax(dim=-1).gather(-1, ids)


@pytest.fixture(autouse=True)
def without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_logprob, "compute_token_logprobs", plain_logprobs)


@dataclass
class Request:
    """A prompt, the ids that its last rows are asked for, and how much of it is computed."""

    hidden: torch.Tensor
    first: int
    ids: list[int]
    cached: int = 0
    computed: int = 0
    steps: list[int] = field(default_factory=list)


@dataclass
class Runner:
    """Steps of the V2 runner: the head, and vLLM's object with its arguments."""

    head: torch.Tensor
    projections: int = 0

    def __post_init__(self) -> None:
        self.prompt_logprobs_worker: Any = PromptLogprobsWorker(16, torch.device("cpu"))
        self.model_config = SimpleNamespace(get_vocab_size=lambda: VOCABULARY)
        self.lora_config: Any = None

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        self.projections += 1
        return hidden @ self.head

    def step(self, requests: dict[str, Request], scheduled: dict[str, int]) -> dict[str, Any]:
        names = list(scheduled)
        counts = np.array(list(scheduled.values()))
        starts = np.array([requests[name].computed for name in names])
        lengths = np.array([len(requests[name].hidden) for name in names])
        hidden = torch.cat(
            [requests[n].hidden[s : s + c] for n, s, c in zip(names, starts, counts, strict=True)]
        )
        batch = SimpleNamespace(
            req_ids=names,
            idx_mapping_np=np.arange(len(names)),
            num_computed_prefill_tokens_np=starts,
            num_scheduled_tokens=counts,
            prefill_len_np=lengths,
            query_start_loc_np=np.concatenate([[0], np.cumsum(counts)]),
        )
        results = self.prompt_logprobs_worker.compute_prompt_token_id_logprobs(
            self.logits, hidden, batch, lengths
        )
        for name, count in scheduled.items():
            requests[name].computed += count
        return dict(results)


def expected(request: Request, head: torch.Tensor) -> torch.Tensor:
    logits = request.hidden[request.first :] @ head
    return logits.log_softmax(-1)[torch.arange(len(request.ids)), torch.tensor(request.ids)]


def marked(request: Request) -> SamplingParams:
    return SamplingParams(extra_args={MARK: request.first, OUTPUT_MARK: request.ids})


@settings(max_examples=60, deadline=None)
@given(
    shapes=st.lists(
        st.tuples(st.integers(1, 9), st.integers(1, 6), st.integers(0, 9)), min_size=1, max_size=6
    ),
    budget=st.integers(1, 30),
    seed=st.integers(0, 100),
)
def test_every_request_gets_its_rows_however_the_steps_fall(
    shapes: list[tuple[int, int, int]], budget: int, seed: int
) -> None:
    """Prompt, output, cached part and steps of any length."""
    torch.manual_seed(seed)
    runner = Runner(torch.randn(WIDTH, VOCABULARY))
    assert output_rows_v2.install(runner) is None
    runner.prompt_logprobs_worker._block = 1 + seed % 5
    requests = {}
    for number, (n_prompt, n_output, cached) in enumerate(shapes):
        hidden = torch.randn(n_prompt + n_output - 1, WIDTH)
        ids = torch.randint(VOCABULARY, (n_output,)).tolist()
        request = Request(hidden, n_prompt - 1, ids, computed=min(cached, n_prompt - 1))
        requests[str(number)] = request
        runner.prompt_logprobs_worker.add_request(str(number), number, marked(request))
    results: dict[str, Any] = {}
    while len(results) < len(requests):
        left, scheduled = budget, {}
        for name, request in requests.items():
            count = min(left, len(request.hidden) - request.computed)
            if count:
                left, scheduled[name] = left - count, count
        results.update(runner.step(requests, scheduled))
        assert scheduled
    for name, request in requests.items():
        assert results[name].shape == (len(request.ids), 2)
        assert torch.allclose(results[name][:, 0], expected(request, runner.head), atol=1e-5)
        greedy = (request.hidden[request.first :] @ runner.head).argmax(-1).tolist()
        assert [each == 0 for each in results[name][:, 1]] == [
            one == two for one, two in zip(request.ids, greedy, strict=True)
        ]
    assert not runner.prompt_logprobs_worker._wanted


def test_all_requests_of_a_step_are_projected_at_once_beside_vllms_own() -> None:
    runner = Runner(torch.randn(WIDTH, VOCABULARY))
    assert output_rows_v2.install(runner) is None
    requests = {str(n): Request(torch.randn(6, WIDTH), 3, [n, 2, 3]) for n in range(5)}
    for number, (name, request) in enumerate(requests.items()):
        runner.prompt_logprobs_worker.add_request(name, number, marked(request))
    requests["stock"] = Request(torch.randn(6, WIDTH), 3, [7, 8])
    params = SamplingParams(
        prompt_logprob_token_ids=np.array([[7], [8]], dtype=np.int32), prompt_logprob_start=3
    )
    runner.prompt_logprobs_worker.add_request("stock", 5, params)
    results = runner.step(requests, dict.fromkeys(requests, 6))
    assert runner.projections == 2
    assert set(results) == set(requests)
    for name in "01234":
        assert torch.allclose(results[name][:, 0], expected(requests[name], runner.head), atol=1e-5)


def test_a_request_whose_first_row_is_cached_gets_nothing() -> None:
    """So that the pair is asked for again without the cache."""
    runner = Runner(torch.randn(WIDTH, VOCABULARY))
    output_rows_v2.install(runner)
    request = Request(torch.randn(6, WIDTH), 3, [1, 2, 3], computed=4)
    runner.prompt_logprobs_worker.add_request("one", 0, marked(request))
    assert runner.step({"one": request}, {"one": 2}) == {}
    assert not runner.prompt_logprobs_worker._wanted


@pytest.mark.parametrize(
    "marks",
    [
        {MARK: 3},
        {MARK: "x", OUTPUT_MARK: [1, 2, 3]},
        {MARK: -1, OUTPUT_MARK: [1, 2, 3]},
        {MARK: 3, OUTPUT_MARK: [1, 2, VOCABULARY]},
        {MARK: 3, OUTPUT_MARK: [1, -2, 3]},
        {MARK: 3, OUTPUT_MARK: [1, 2]},
        {MARK: 3, OUTPUT_MARK: ["a", 1, 1]},
        {MARK: 3, OUTPUT_MARK: []},
    ],
)
def test_marks_may_be_sent_by_anybody(marks: dict[str, Any]) -> None:
    runner = Runner(torch.randn(WIDTH, VOCABULARY))
    output_rows_v2.install(runner)
    request = Request(torch.randn(6, WIDTH), 3, [1, 2, 3])
    runner.prompt_logprobs_worker.add_request("one", 0, SamplingParams(extra_args=marks))
    assert runner.step({"one": request}, {"one": 6}) == {}


def test_it_is_put_in_place_and_taken_out_again() -> None:
    runner = Runner(torch.randn(WIDTH, VOCABULARY))
    stock = runner.prompt_logprobs_worker
    for _ in range(2):
        assert output_rows_v2.install(runner) is None
    assert type(runner.prompt_logprobs_worker) is OutputRowsWorker
    request = Request(torch.randn(6, WIDTH), 3, [1, 2, 3])
    runner.prompt_logprobs_worker.add_request("one", 0, marked(request))
    runner.prompt_logprobs_worker.remove_request("one")
    assert runner.step({"one": request}, {"one": 6}) == {}
    for _ in range(2):
        output_rows_v2.uninstall(runner)
    assert runner.prompt_logprobs_worker is stock
    assert output_rows_v2.install(SimpleNamespace(prompt_logprobs_worker=None)) is None


class Base:
    """A logits processor, and a head for it."""

    tp_size = 1

    def _get_logits(self, hidden: torch.Tensor, head: Any, bias: Any = None) -> torch.Tensor:
        assert head == "the head, unwrapped"
        return hidden + 1

    def forward(self, head: Any, hidden: torch.Tensor) -> torch.Tensor:
        return self._get_logits(hidden, head, None)


def test_pairs_are_projected_without_the_part_of_adapters() -> None:
    """Of which vLLM has one row for each request of the step."""
    served = LogitsProcessorWithLoRA.__new__(LogitsProcessorWithLoRA)
    torch.nn.Module.__init__(served)
    served.__dict__["base_layer"] = Base()
    model, head = torch.nn.Sequential(served), SimpleNamespace(base_layer="the head, unwrapped")
    hidden = torch.zeros(5, 3)
    with without_adapters(model):
        assert (served(head, hidden) == 1).all()
    with pytest.raises(AttributeError):
        served(head, hidden)  # vLLM's own, which asks for what this one lacks
    with without_adapters(None):
        pass
