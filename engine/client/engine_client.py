"""The client of a scoring server, for callers that block."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx

from engine.client.async_client import AsyncEngineClient
from engine.client.blocking import BlockingTransport, iterate_now, run_now
from engine.client.sampling import Prompt
from engine.client.wire import PATIENCE_S
from engine.protocol.api import SkippedTask, TaskScore
from engine.protocol.completions import (
    CompletionLogprobs,
    CompletionLogprobsResponse,
    Encoding,
    Pair,
    SkippedPair,
)
from engine.protocol.samples import Sample
from engine.protocol.score_config import ScoreConfig
from engine.protocol.weights_state import Readiness, Verification, WeightsKind, WeightsState
from engine.tasks import Task

if TYPE_CHECKING:
    import ssl

_AS_IS = Encoding()
_T = TypeVar("_T")


class _Blocking(AsyncEngineClient):
    """Its coroutines block and never wait."""

    def _transport(self, verify: ssl.SSLContext | bool) -> httpx.AsyncBaseTransport:
        return BlockingTransport(verify)

    async def _sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def _aside(self, work: Callable[[], _T]) -> _T:
        return work()

    async def _together(self, works: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
        return [await one for one in works]


class EngineClient:
    """Talks to one scoring server; a context manager, safe for threads.

    Arguments, calls, errors and what is tried again are those of
    `engine.client.async_client.AsyncEngineClient`. It works where an event loop runs, as in a
    notebook, and stops it for as long.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        timeout_s: float = 600.0,
        tasks_per_request: int = 64,
        *,
        paraphrases: Path | None = None,
        admin_key: str | None = None,
        patience_s: float = PATIENCE_S,
        pairs_per_request: int = 4096,
    ) -> None:
        self._asks = _Blocking(
            base_url,
            api_key,
            timeout_s,
            tasks_per_request,
            paraphrases=paraphrases,
            admin_key=admin_key,
            patience_s=patience_s,
            pairs_per_request=pairs_per_request,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def move(self, base_url: str) -> None:
        """Asks another server from now on."""
        self._asks.move(base_url)

    def close(self) -> None:
        """Closes the connections, and the file of paraphrases."""
        run_now(self._asks.close())

    def score(
        self,
        tasks: Iterable[Task],
        config: ScoreConfig,
        on_skip: Callable[[SkippedTask], None] | None = None,
    ) -> Iterator[TaskScore]:
        """The score of each task as it is finished, each task once.

        Closing the generator stops the work.
        """
        return iterate_now(self._asks.score(tasks, config, on_skip))

    def logprobs(
        self,
        pairs: Iterable[Pair],
        encoding: Encoding = _AS_IS,
        *,
        tokens: bool = False,
        on_skip: Callable[[SkippedPair], None] | None = None,
    ) -> Iterator[CompletionLogprobs]:
        """The result of each pair as it is finished, each pair once.

        Closing the generator stops the work.
        """
        return iterate_now(self._asks.logprobs(pairs, encoding, tokens=tokens, on_skip=on_skip))

    def completion_logprobs(
        self, pairs: Sequence[Pair], encoding: Encoding = _AS_IS, *, tokens: bool = False
    ) -> CompletionLogprobsResponse:
        """Log-probabilities of fixed completions, all in one request."""
        return run_now(self._asks.completion_logprobs(pairs, encoding, tokens=tokens))

    def weights(self) -> WeightsState:
        """Which weights are live."""
        return run_now(self._asks.weights())

    def ready(self) -> Readiness:
        """Returns when the server can score."""
        return run_now(self._asks.ready())

    def load_weights(
        self,
        path: Path,
        version: str | None,
        kind: WeightsKind | None = None,
        verify: Verification = "probes",
    ) -> WeightsState:
        """Makes a published checkpoint or adapter live; returns when the server has verified it."""
        return run_now(self._asks.load_weights(path, version, kind, verify))

    def release_weights(self) -> WeightsState:
        """Has the server free the device's memory; it serves nothing until `restore_weights`."""
        return run_now(self._asks.release_weights())

    def restore_weights(self) -> WeightsState:
        """Has the server load the live weights again; returns when it has verified them."""
        return run_now(self._asks.restore_weights())

    def generate(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, end: int | None = None
    ) -> list[str]:
        """Greedy outputs of prompts given as token ids, decoded, in order."""
        return run_now(self._asks.generate(prompts, max_tokens, end))

    def complete(self, prompts: Sequence[Sequence[int]], options: Mapping[str, Any]) -> list[str]:
        """Outputs of prompts given as token ids, decoded, in order."""
        return run_now(self._asks.complete(prompts, options))

    def samples(
        self,
        prompts: Iterable[Prompt],
        n: int = 1,
        *,
        max_tokens: int = 64,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> list[Sample]:
        """So many outputs of each prompt, in order."""
        return run_now(
            self._asks.samples(
                prompts,
                n,
                max_tokens=max_tokens,
                temperature=temperature,
                top_p=top_p,
                seed=seed,
            )
        )
