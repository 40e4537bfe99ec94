"""Logits for the rows that predict output tokens, and for no others.

vLLM projects every computed prompt row of a request that asks for prompt log-probabilities onto the
vocabulary, request by request. Of a pair only the output's rows are wanted, and projecting those of
all requests of a step at once reads the projection's weights once instead of once per request.

This replaces one method of the V1 model runner, for requests that carry a mark; all others take the
stock path. It is tied to what that method leans on, so it is installed only on versions it was
written for, and only kept if a self-test gives the stock path's numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from engine.server.vllm.patched_vllm import OUTPUT_ROWS, unfit

MARK = "jostle_first_row"
"""Key of `SamplingParams.extra_args`: the first row wanted. Row r predicts prompt token r + 1."""

COUNT_MARK = "jostle_rows"
"""Another: how many rows are wanted; without it, all from the first on."""

OUTPUT_MARK = "jostle_output"
"""Another, for the V2 runner: the ids to score, one for each row from the first wanted on."""

_LOGITS_BYTES = 24 * 2**20
"""Largest block of logits held at once: below the threshold of
`engine.process.settings.KEEP_MEMORY`, past which a CPU gets fresh pages for each block, which takes
as long as the projection itself."""

_STOCK = "_jostle_stock_prompt_logprobs"
_METHOD = "_get_prompt_logprobs_dict"

_Stock = Callable[[Any, torch.Tensor, dict[str, int]], dict[str, Any]]


@dataclass(slots=True)
class _Span:
    """The wanted rows of one request in the present step."""

    request: Any
    first_hidden: int
    first_row: int
    n_rows: int
    first_wanted: int


def install(runner: Any) -> str | None:
    """Installs the method on the runner's class.

    Args:
        runner: A vLLM model runner.

    Returns:
        Why it was not installed, or None if it was. Safe to call again.
    """
    kind = type(runner)
    if reason := unfit(OUTPUT_ROWS):
        return reason
    if not hasattr(kind, _METHOD) or not hasattr(runner, "num_prompt_logprobs"):
        return "the model runner is not vLLM's V1 runner"
    if not hasattr(kind, _STOCK):
        setattr(kind, _STOCK, getattr(kind, _METHOD))
        setattr(kind, _METHOD, _prompt_logprobs)
    return None


def uninstall(runner: Any) -> None:
    """Gives the runner's class its stock method back. Safe to call again."""
    kind = type(runner)
    if hasattr(kind, _STOCK):
        setattr(kind, _METHOD, getattr(kind, _STOCK))
        delattr(kind, _STOCK)


def _prompt_logprobs(
    self: Any, hidden_states: torch.Tensor, num_scheduled_tokens: dict[str, int]
) -> dict[str, Any]:
    """Replacement of the runner's method; the same contract.

    A marked request gets one row per wanted position only, so its last rows are those of the output
    whichever path served it.
    """
    waiting: dict[str, int] = self.num_prompt_logprobs
    marked = {
        request_id: count
        for request_id, count in waiting.items()
        if _first_wanted(self.requests[request_id]) is not None
    }
    stock: _Stock = getattr(type(self), _STOCK)
    for request_id in marked:
        del waiting[request_id]
    try:
        results = stock(self, hidden_states, num_scheduled_tokens)
    finally:
        waiting.update(marked)
    spans: list[_Span] = []
    for request_id in marked:
        scheduled = num_scheduled_tokens.get(request_id)
        if scheduled is None:  # preempted while its prompt was being computed
            continue
        request = self.requests[request_id]
        span = _span(self, request_id, request, scheduled)
        if span is not None:
            spans.append(span)
        last_row = len(request.prompt_token_ids) - 2
        if request.num_computed_tokens + scheduled > last_row + 1:
            results[request_id] = _results(request)
            del waiting[request_id]
    if spans:
        _fill(self, hidden_states, spans)
    for request_id in results.keys() & marked.keys():
        self.requests[request_id].in_progress_prompt_logprobs_cpu = None
    return results


def _first_wanted(request: Any) -> int | None:
    """The mark of a request, if it makes sense. Any client of the server may send one."""
    params = request.sampling_params
    value = (params.extra_args or {}).get(MARK) if params else None
    if type(value) is not int or params.prompt_logprobs != 0:
        return None
    if request.prompt_token_ids is None:  # its prompt is embeddings
        return None
    return value if 0 <= value < len(request.prompt_token_ids) - 1 else None


def _span(runner: Any, request_id: str, request: Any, scheduled: int) -> _Span | None:
    wanted = _first_wanted(request)
    assert wanted is not None
    start = request.num_computed_tokens
    first = max(start, wanted)
    # The last prompt row predicts the token that is sampled; the sampler sees to that one.
    end = min(start + scheduled, len(request.prompt_token_ids) - 1)
    count = request.sampling_params.extra_args.get(COUNT_MARK)
    if type(count) is int and count > 0:
        end = min(end, wanted + count)
    if end <= first:
        return None
    index = runner.input_batch.req_id_to_index[request_id]
    offset = int(runner.query_start_loc.np[index])
    return _Span(request, offset + first - start, first, end - first, wanted)


def _results(request: Any) -> Any:
    """The request's rows; NaN where nothing was computed, so that no unfilled row looks right.

    A rank is 1 where no token is likelier, else 2: counting takes as long as the softmax.
    """
    from vllm.v1.outputs import LogprobsTensors

    if request.in_progress_prompt_logprobs_cpu is None:
        wanted = _first_wanted(request)
        assert wanted is not None
        targets = torch.tensor(request.prompt_token_ids[wanted + 1 :], dtype=torch.int32)
        request.in_progress_prompt_logprobs_cpu = LogprobsTensors(
            logprob_token_ids=targets.unsqueeze(-1),
            logprobs=torch.full((len(targets), 1), float("nan")),
            selected_token_ranks=torch.zeros(len(targets), dtype=torch.int32),
        )
    return request.in_progress_prompt_logprobs_cpu


def _fill(runner: Any, hidden_states: torch.Tensor, spans: list[_Span]) -> None:
    """Computes the rows of all spans, in blocks across requests, and writes them where they go."""
    device = hidden_states.device
    rows = torch.cat(
        [torch.arange(span.first_hidden, span.first_hidden + span.n_rows) for span in spans]
    ).to(device)
    targets = torch.cat(
        [
            torch.tensor(
                span.request.prompt_token_ids[span.first_row + 1 : span.first_row + 1 + span.n_rows]
            )
            for span in spans
        ]
    ).to(device)
    vocabulary = runner.model_config.get_vocab_size()
    block = max(1, _LOGITS_BYTES // (4 * vocabulary))
    with without_adapters(runner.get_model() if runner.lora_config else None):
        values = project(runner.model.compute_logits, hidden_states, rows, targets, block).cpu()
    for span, of_span in zip(
        spans, torch.split(values, [span.n_rows for span in spans]), strict=True
    ):
        results = _results(span.request)
        first = span.first_row - span.first_wanted
        results.logprobs[first : first + span.n_rows, 0] = of_span[:, 0]
        results.selected_token_ranks[first : first + span.n_rows] = 1 + (of_span[:, 1] < 0)


@contextmanager
def without_adapters(model: torch.nn.Module | None) -> Iterator[None]:
    """Projections of a model served with `--enable-lora`, without the part of adapters.

    vLLM adds that of each request to one row, the first to the first row and so on. A pair has any
    number of rows, and no adapter.

    Args:
        model: The model; None where no adapters are served.
    """
    if model is None:
        yield
        return
    from vllm.lora.layers.logits_processor import LogitsProcessorWithLoRA

    heads: list[Any] = [
        module for module in model.modules() if isinstance(module, LogitsProcessorWithLoRA)
    ]

    def plain(base: Any) -> Callable[..., Any]:
        return lambda hidden_states, head, *more, **named: base._get_logits(
            hidden_states, getattr(head, "base_layer", head), *more, **named
        )

    for head in heads:
        head._get_logits = plain(head.base_layer)
    try:
        yield
    finally:
        for head in heads:
            del head._get_logits


def project(
    logits_of: Callable[[torch.Tensor], torch.Tensor],
    hidden_states: torch.Tensor,
    rows: torch.Tensor,
    targets: torch.Tensor,
    block: int,
) -> torch.Tensor:
    """`of_targets` for some rows of the hidden states, so many at once."""
    return torch.cat(
        [
            of_targets(logits_of(hidden_states[some]), of_some)
            for some, of_some in zip(
                torch.split(rows, block), torch.split(targets, block), strict=True
            )
        ]
    )


def of_targets(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Log softmax at one column per row, and how far that is below the row's largest value.

    Args:
        logits: Shape (rows, vocabulary).
        targets: Shape (rows,).

    Returns:
        Shape (rows, 2), float32.
    """
    logits = logits.float()
    peak = logits.amax(dim=-1, keepdim=True)
    below = (logits.gather(-1, targets.unsqueeze(-1)) - peak).squeeze(-1)
    return torch.stack([below - (logits - peak).exp_().sum(dim=-1).log(), below], dim=-1)
