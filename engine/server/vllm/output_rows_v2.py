"""The same on vLLM's V2 model runner: the rows of output tokens, those of all requests at once.

That runner scores fixed ids by itself, request by request, each of which reads the projection's
weights again, and of no row does it say whether the id is the likeliest. This stands in for the
object that does so, for requests that carry both marks; all others get what they always got. It
scores the row behind the prompt too, so an output's last token is neither submitted nor sampled.

Nothing waits for the device: the values of a step go to the host in one copy, on the stream whose
work vLLM awaits before it reads any of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from vllm.utils.platform_utils import is_pin_memory_available
from vllm.utils.torch_utils import async_tensor_h2d
from vllm.v1.worker.gpu.sample.prompt_logprob import PromptLogprobsWorker

from engine.server.vllm.output_rows import MARK, OUTPUT_MARK, project, without_adapters

_LOGITS_BYTES = 256 * 2**20
"""Largest block of logits in float32. There are three of them at once."""


@dataclass(slots=True)
class _Wanted:
    """What one request has scored: the ids, from a row on, and what earlier steps gave of them."""

    first: int
    ids: np.ndarray[Any, np.dtype[np.int64]]
    parts: list[torch.Tensor] = field(default_factory=list)


class OutputRowsWorker(PromptLogprobsWorker):
    """vLLM's object, with the marked requests on top. `install` puts it in place.

    Args:
        stock: The object it stands in for. They share what they hold, so they can be swapped
            while requests are under way.
        vocabulary: Tokens of the model.
        model: The model, where adapters are served with it.
    """

    def __init__(
        self, stock: PromptLogprobsWorker, vocabulary: int, model: torch.nn.Module | None = None
    ) -> None:
        self.__dict__.update(vars(stock))
        self.stock = stock
        self._vocabulary = vocabulary
        self._model = model
        self._block = max(1, _LOGITS_BYTES // (4 * vocabulary))
        self._wanted: dict[str, _Wanted] = {}

    def add_request(self, req_id: str, req_idx: int, sampling_params: Any) -> None:
        """Notes what is wanted of a request, if its marks make sense: anybody may send some."""
        super().add_request(req_id, req_idx, sampling_params)
        marks = sampling_params.extra_args or {}
        first, ids = marks.get(MARK), marks.get(OUTPUT_MARK)
        if type(first) is not int or first < 0 or type(ids) is not list or not ids:
            return
        if all(type(each) is int and 0 <= each < self._vocabulary for each in ids):
            self._wanted[req_id] = _Wanted(first, np.array(ids, dtype=np.int64))

    def remove_request(self, req_id: str) -> None:
        """Forgets a request."""
        super().remove_request(req_id)
        self._wanted.pop(req_id, None)

    def compute_prompt_token_id_logprobs(
        self,
        logits_fn: Callable[[torch.Tensor], torch.Tensor],
        hidden_states: torch.Tensor,
        input_batch: Any,
        prompt_lens: np.ndarray[Any, Any],
    ) -> dict[str, torch.Tensor]:
        """The values of the requests that are through their prompt: `of_targets`, on the host."""
        results = super().compute_prompt_token_id_logprobs(
            logits_fn, hidden_states, input_batch, prompt_lens
        )
        spans = self._spans(input_batch, prompt_lens) if self._wanted else []
        if not spans:
            return results
        counts = [len(ids) for _, _, ids, _ in spans]
        index = np.empty((2, sum(counts)), dtype=np.int64)
        index[0] = np.concatenate([np.arange(row, row + len(ids)) for _, row, ids, _ in spans])
        index[1] = np.concatenate([ids for _, _, ids, _ in spans])
        rows, targets = async_tensor_h2d(index, self.device)
        with without_adapters(self._model):
            values = project(logits_fn, hidden_states, rows, targets, self._block)
        done: list[str] = []
        parts: list[torch.Tensor] = []
        for (req_id, _, _, is_last), part in zip(spans, torch.split(values, counts), strict=True):
            wanted = self._wanted[req_id]
            wanted.parts.append(part)
            if is_last:
                done.append(req_id)
                parts += wanted.parts
        if done:
            whole = len(done) == len(spans) == len(parts)
            on_host = _to_host(values if whole else torch.cat(parts))
            sizes = [len(self._wanted.pop(req_id).ids) for req_id in done]
            results.update(zip(done, torch.split(on_host, sizes), strict=True))
        return results

    def _spans(
        self, input_batch: Any, prompt_lens: np.ndarray[Any, Any]
    ) -> list[tuple[str, int, np.ndarray[Any, Any], bool]]:
        """Per request of this step: its first row in the step, the ids, whether they are the last.

        A request whose rows are not all computed, or not as many as ids, gets no values at all.
        """
        spans = []
        for number, req_id in enumerate(input_batch.req_ids):
            wanted = self._wanted.get(req_id)
            if wanted is None:
                continue
            prompt_len = int(prompt_lens[input_batch.idx_mapping_np[number]])
            start = int(input_batch.num_computed_prefill_tokens_np[number])
            end = start + int(input_batch.num_scheduled_tokens[number])
            done = sum(len(part) for part in wanted.parts)
            if (
                wanted.first + len(wanted.ids) != prompt_len
                or start > wanted.first + done
                or prompt_len < input_batch.prefill_len_np[number]  # its output had begun
            ):
                del self._wanted[req_id]
                continue
            begin = wanted.first + done
            if end <= begin:
                continue
            ids = wanted.ids[done : end - wanted.first]
            row = int(input_batch.query_start_loc_np[number]) + begin - start
            spans.append((req_id, row, ids, end >= prompt_len))
        return spans


def install(runner: Any) -> str | None:
    """Puts ours in place of the runner's object; why it was not done, or None.

    Safe to call again.
    """
    stock = runner.prompt_logprobs_worker
    if stock is None or isinstance(stock, OutputRowsWorker):
        return None  # a rank of a pipeline that samples nothing
    if type(stock) is not PromptLogprobsWorker:
        return f"the model runner uses a {type(stock).__name__}"
    vocabulary = runner.model_config.get_vocab_size()
    model = runner.get_model() if runner.lora_config else None
    runner.prompt_logprobs_worker = OutputRowsWorker(stock, vocabulary, model)
    return None


def uninstall(runner: Any) -> None:
    """Puts the runner's own object back. Safe to call again."""
    ours = runner.prompt_logprobs_worker
    if isinstance(ours, OutputRowsWorker):
        runner.prompt_logprobs_worker = ours.stock


def _to_host(values: torch.Tensor) -> torch.Tensor:
    """The values in memory of the host, once the device has come so far."""
    if values.device.type == "cpu":
        return values
    pinned = torch.empty(
        values.shape, dtype=values.dtype, device="cpu", pin_memory=is_pin_memory_available()
    )
    return pinned.copy_(values, non_blocking=True)
