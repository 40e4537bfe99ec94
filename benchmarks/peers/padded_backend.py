"""A scoring backend on transformers: padded batches of whatever is waiting, nothing reused."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import torch

from engine.questions.backend import Generated, Scored, checked_logprobs

_TF32_BITS = 13
"""Bits of float32's mantissa that TF32 leaves out."""

ROWS = 8
"""Rows of a batch, at most."""


def rounded(model: Any, precision: str) -> Any:
    """A float32 model, changed to compute in `float32`, `tf32` (simulated) or `bfloat16`."""
    model.eval()
    if precision == "bfloat16":
        model.bfloat16()
    if precision == "tf32":
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.data = to_tf32(module.weight.data)
                module.register_forward_pre_hook(lambda _, inputs: (to_tf32(inputs[0]),))
    return model


def to_tf32(values: Any) -> Any:
    """Rounded to the nearest number with 10 bits of mantissa."""
    bits = values.contiguous().view(torch.int32)
    half = 1 << (_TF32_BITS - 1)
    return ((bits + half) & -(1 << _TF32_BITS)).view(torch.float32)


@dataclass(eq=False)
class _Call:
    prompt: tuple[int, ...]
    output: tuple[int, ...]
    answer: asyncio.Future[Any]


class PaddedBackend:
    """Implements `engine.questions.backend.Backend`, but for samples.

    Args:
        kernel: That of the attention, `sdpa` or `eager`.
    """

    def __init__(
        self, model: Any, tokenizer: Any, max_model_len: int, precision: str, kernel: str
    ) -> None:
        self.tokenizer = tokenizer
        self.max_model_len = max_model_len
        self.precision = precision
        self.max_in_flight = 2 * ROWS
        self._model = model
        self._kernel = kernel
        self._waiting: list[_Call] = []
        self._busy = asyncio.Lock()

    def new_group(self) -> int:
        """There is one cache, which is none."""
        return 0

    async def score(
        self, prompt: tuple[int, ...], output: tuple[int, ...], name: str, group: int, **_: Any
    ) -> Scored:
        """See `Backend`."""
        rows = await self._rows(prompt, output)
        ids = torch.tensor(output)
        values = rows[range(len(output)), ids]
        greedy = tuple((values >= rows.max(dim=1).values).tolist())
        logprobs = checked_logprobs(values.tolist(), name)
        return Scored(logprobs, len(prompt) + len(output), 0, rescored=False, is_greedy=greedy)

    async def generate(
        self, prompt: tuple[int, ...], max_tokens: int, end: int, name: str, group: int
    ) -> Generated:
        """See `Backend`; alone, token by token, with the keys and values of those before."""
        async with self._busy:
            output, logprobs = await asyncio.to_thread(self._decode, prompt, max_tokens, end)
        reason = "stop" if output[-1] == end else "length"
        return Generated(tuple(output), tuple(logprobs), reason, len(prompt), 0)

    async def sample(self, planned: Any, group: int) -> Any:
        """Nothing here samples."""
        raise NotImplementedError

    async def _rows(self, prompt: tuple[int, ...], output: tuple[int, ...]) -> Any:
        """Log-probabilities of all tokens in each place of the output."""
        call = _Call(prompt, output, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        await asyncio.sleep(0)
        async with self._busy:
            if not call.answer.done():
                batch, self._waiting = self._waiting[:ROWS], self._waiting[ROWS:]
                for each, rows in zip(
                    batch, await asyncio.to_thread(self._run, batch), strict=True
                ):
                    each.answer.set_result(rows)
        return await call.answer

    def _decode(
        self, prompt: tuple[int, ...], max_tokens: int, end: int
    ) -> tuple[list[int], list[float]]:
        self._model.set_attn_implementation(self._kernel)
        output: list[int] = []
        logprobs: list[float] = []
        ids, before = torch.tensor([prompt]), None
        with torch.inference_mode():
            while len(output) < max_tokens and end not in output:
                hidden, before = self._model.model(
                    input_ids=ids, past_key_values=before, use_cache=True
                )[:2]
                row = self._model.lm_head(hidden[0, -1:]).float().log_softmax(-1)[0]
                output.append(int(row.argmax()))
                logprobs.append(float(row.max()))
                ids = torch.tensor([output[-1:]])
        return output, logprobs

    def _run(self, batch: list[_Call]) -> list[Any]:
        self._model.set_attn_implementation(self._kernel)
        longest = max(len(each.prompt) + len(each.output) for each in batch)
        ids = torch.zeros((len(batch), longest), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, each in enumerate(batch):
            sequence = each.prompt + each.output
            ids[row, : len(sequence)] = torch.tensor(sequence)
            mask[row, : len(sequence)] = 1
        with torch.inference_mode():
            hidden = self._model.model(input_ids=ids, attention_mask=mask, use_cache=False)[0]
            found = []
            for row, each in enumerate(batch):
                places = slice(len(each.prompt) - 1, len(each.prompt) + len(each.output) - 1)
                logits = self._model.lm_head(hidden[row, places])
                found.append(logits.float().log_softmax(-1))
        return found
