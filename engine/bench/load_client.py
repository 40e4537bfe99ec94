"""Sends the requests of a measurement and writes down when they were answered."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from engine.bench.bench_calls import STOCK, Call
from engine.client import AsyncEngineClient, wire
from engine.client.sampling import SAMPLE_PATH
from engine.client.wire import not_understood
from engine.errors import EngineError
from engine.protocol.api import Usage
from engine.protocol.completions import TokenPair

RELOAD = "reload"
"""What a load of weights is called among requests."""


def now() -> float:
    """Seconds by the clock of the event loop."""
    return asyncio.get_running_loop().time()


@dataclass(frozen=True, slots=True)
class TimedCall:
    """A request that was answered, or failed. Times are of `now`.

    Attributes:
        kind: As of the call.
        due: When it was to be sent.
        end: When the last byte had come.
        first: When the first result had come; None if none did.
        usage: What it cost; None if it failed.
        error: Why it failed.
        length: As of the call.
    """

    kind: str
    due: float
    end: float
    first: float | None = None
    usage: Usage | None = None
    error: str | None = None
    length: float = 0.0


class LoadClient(AsyncEngineClient):
    """Tries everything once: what the engine does not take is a failure and nothing else.

    Args: see `engine.client.AsyncEngineClient`.
    """

    def __init__(self, url: str, api_key: str | None = None, admin_key: str | None = None) -> None:
        super().__init__(url, api_key, admin_key=admin_key, patience_s=0.0)

    async def send(self, call: Call, due: float) -> TimedCall:
        """The request, answered or failed.

        Raises:
            InputError: If the server finds fault with it: the workload is at fault.
        """
        try:
            first, usage = await (self._stock(call) if call.kind == STOCK else self._ours(call))
        except EngineError as error:
            return TimedCall(call.kind, due, now(), error=str(error))
        return TimedCall(call.kind, due, now(), first, usage, length=call.length)

    async def _ours(self, call: Call) -> tuple[float | None, Usage | None]:
        batch = call.streamed()
        first: float | None = None
        answers: Any = self._stream(batch)
        async with aclosing(answers):
            async for _ in answers:
                first = first or now()
        return first, batch.usage

    async def _stock(self, call: Call) -> tuple[float, Usage]:
        sums, usage = await self.stock_logprobs(call.content, call.salt)
        assert len(sums) == call.n_pairs
        return now(), usage

    async def stock_logprobs(
        self, pairs: Sequence[TokenPair], salt: str
    ) -> tuple[list[float], Usage]:
        """Log-probabilities of completions by vLLM's own route, those of whole prompts.

        Raises:
            EngineError: If the server cannot be reached or fails.
        """
        prompts = [(*pair.prompt_token_ids, *pair.completion_token_ids) for pair in pairs]
        options = {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0, "cache_salt": salt}
        body = wire.completion_body(await self._model_name(), prompts, options)
        answer = await self._try("POST", SAMPLE_PATH, body)
        try:
            choices = {int(choice["index"]): choice for choice in answer["choices"]}
            sums = [
                sum(
                    float(rows[str(token)]["logprob"])
                    for rows, token in zip(
                        choices[place]["prompt_logprobs"][len(pair.prompt_token_ids) :],
                        pair.completion_token_ids,
                        strict=True,
                    )
                )
                for place, pair in enumerate(pairs)
            ]
        except (LookupError, TypeError, ValueError) as error:
            raise not_understood(SAMPLE_PATH) from error
        return sums, Usage(pairs=len(pairs), tokens_submitted=sum(map(len, prompts)))

    async def load(self, checkpoint: tuple[Path, str], due: float) -> TimedCall:
        """A load of weights, answered or failed.

        Args:
            checkpoint: Their folder and their version.

        Raises:
            InputError: If it was refused before anything was touched.
        """
        try:
            await self.load_weights(*checkpoint)
        except EngineError as error:
            return TimedCall(RELOAD, due, now(), error=str(error))
        return TimedCall(RELOAD, due, now(), usage=Usage())

    async def step_seconds(self) -> dict[str, float]:
        """Seconds that requests have spent in each part of the engine so far, by its metrics.

        Empty where it does not tell.
        """
        try:
            answer = await self._http.get("/metrics")
        except httpx.HTTPError:
            return {}
        found: dict[str, float] = {}
        for part, value in _STEP_SECONDS.findall(answer.text):
            found[part] = found.get(part, 0.0) + float(value)
        return found


_STEP_SECONDS = re.compile(
    r"^vllm:request_(queue|prefill|decode)_time_seconds_sum(?:\{.*\})? (\S+)$", re.MULTILINE
)
