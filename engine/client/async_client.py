"""The client of a scoring server for asyncio; the same calls as `engine.client.EngineClient`."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx

from engine.client import wire
from engine.protocol.api import (
    CompletionLogprobsRequest,
    CompletionLogprobsResponse,
    LoadWeightsRequest,
    Readiness,
    SkippedTask,
    TaskScore,
    TokenPair,
    WeightsKind,
    WeightsState,
)
from engine.protocol.score_config import ScoreConfig
from engine.tasks import Record, Task

_R = TypeVar("_R", bound=Record)


class AsyncEngineClient:
    """Talks to one scoring server; an async context manager. See `EngineClient` for arguments,
    errors and what is tried again.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        timeout_s: float = 600.0,
        tasks_per_request: int = 64,
        *,
        admin_key: str | None = None,
        patience_s: float = 180.0,
    ) -> None:
        self._http = httpx.AsyncClient(
            base_url=wire.server_address(base_url),
            headers=wire.headers(api_key, admin_key),
            timeout=httpx.Timeout(timeout_s, connect=10.0),
            trust_env=False,
        )
        self._tasks_per_request = tasks_per_request
        self._patience_s = patience_s
        self._met = False
        self._model: str | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def score(
        self,
        tasks: Iterable[Task],
        config: ScoreConfig,
        on_skip: Callable[[SkippedTask], None] | None = None,
    ) -> AsyncGenerator[TaskScore, None]:
        """Yields the score of each task as it is finished, each task once.

        `on_skip` is as in `engine.client.EngineClient.score`.

        Closing the generator closes the connection, and the server stops the work.
        """
        patience = self._patience()
        waiting = iter(tasks)
        while some := tuple(itertools.islice(waiting, self._tasks_per_request)):
            batch = wire.Batch.of(some, config, "skip" if on_skip else "error")
            while not batch.complete:
                try:
                    async with aclosing(self._stream(batch)) as scores:
                        async for score in scores:
                            self._met = True
                            patience.progress()
                            if isinstance(score, TaskScore):
                                yield score
                            elif on_skip is not None:
                                on_skip(score)
                except wire.UnavailableError as error:
                    await asyncio.sleep(patience.pause(error))

    async def _stream(self, batch: wire.Batch) -> AsyncGenerator[TaskScore | SkippedTask, None]:
        buffer = wire.LineBuffer()
        try:
            async with self._http.stream(
                "POST", wire.SCORE_PATH, content=batch.request(), headers=wire.JSON
            ) as response:
                if response.status_code != httpx.codes.OK:
                    await response.aread()
                    wire.decoded(response, wire.SCORE_PATH)
                async for chunk in response.aiter_bytes():
                    for line in buffer.feed(chunk):
                        score = batch.take(line)
                        if score is None:
                            return
                        yield score
        except httpx.HTTPError as error:
            raise wire.cut(error) from error
        raise batch.broken_off()

    async def completion_logprobs(self, pairs: Sequence[TokenPair]) -> CompletionLogprobsResponse:
        """Log-probabilities of fixed completions."""
        body = CompletionLogprobsRequest(pairs=tuple(pairs))
        return await self._ask("POST", "/v1/completion_logprobs", body, CompletionLogprobsResponse)

    async def weights(self) -> WeightsState:
        """Which weights are live."""
        return await self._ask("GET", "/v1/weights", None, WeightsState)

    async def ready(self) -> Readiness:
        """Returns when the server can score."""
        return await self._ask("GET", "/ready", None, Readiness)

    async def load_weights(
        self, path: Path, version: str, kind: WeightsKind | None = None
    ) -> WeightsState:
        """Makes a published checkpoint or adapter live; returns when the server has verified it."""
        body = LoadWeightsRequest(path=str(path.resolve()), version=version, kind=kind)
        return await self._ask("POST", "/v1/weights", body, WeightsState)

    async def generate(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, end: int | None = None
    ) -> list[str]:
        """Greedy outputs of prompts given as token ids, decoded, in order; see `EngineClient`."""
        if not prompts:
            return []
        if self._model is None:
            self._model = wire.first_model(await self._call("GET", "/v1/models"), "/v1/models")
        path = "/v1/completions"
        body = wire.completion_body(self._model, prompts, max_tokens, end)
        return wire.completion_texts(await self._call("POST", path, body), len(prompts), path)

    def _patience(self) -> wire.Patience:
        # One per call: calls run side by side, and the progress of one is not that of another.
        return wire.Patience(self._patience_s, self._met)

    async def _ask(self, method: str, path: str, body: Record | None, kind: type[_R]) -> _R:
        answer = await self._call(method, path, body.model_dump_json() if body else None)
        return wire.parsed(answer, kind, path)

    async def _call(self, method: str, path: str, content: str | None = None) -> Any:
        patience = self._patience()
        while True:
            try:
                response = await self._http.request(
                    method, path, content=content, headers=wire.JSON
                )
                answer = wire.decoded(response, path)
            except httpx.HTTPError as error:
                url = str(self._http.base_url).rstrip("/") + path
                failed = wire.unreachable(error, method, url)
                if not isinstance(failed, wire.UnavailableError):
                    raise failed from error
                await asyncio.sleep(patience.pause(failed))
            except wire.UnavailableError as unavailable:
                await asyncio.sleep(patience.pause(unavailable))
            else:
                self._met = True
                return answer
