"""The client of a scoring server."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from engine.client import wire
from engine.client.paraphrase_journal import ParaphraseJournal
from engine.client.paraphrases import asks_for_paraphrases, fill_from
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


class EngineClient:
    """Talks to one scoring server; a context manager.

    What may be tried again is: a refused connection, a 503, an answer that was cut. A stream of
    scores that is cut is taken up with the tasks that are missing. Only a load of weights that was
    cut is not tried again, as it may have been done; nor is a call that took too long.

    Args:
        base_url: Where the server is, such as `http://127.0.0.1:8000`; `/v1` at its end is let go.
        api_key: Sent as bearer token, if given.
        timeout_s: Longest silence of the server in the middle of an answer, in seconds. A load of
            weights or the first task of a large request may take long; nothing may take for ever.
        tasks_per_request: Tasks sent at once. Bounds the memory of both sides.
        paraphrases: The file that keeps paraphrases. With it, those that a design lacks are asked
            for before its tasks are scored; see `engine.client.paraphrases`.
        admin_key: The key that loading weights wants, if the server has one.
        patience_s: Seconds to go on trying without any progress, once the server has answered at
            all: long enough for an engine to be started again. 0: one try.

    Raises:
        InputError: If `base_url` is no address.
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
        patience_s: float = 180.0,
    ) -> None:
        self._http = httpx.Client(
            base_url=wire.server_address(base_url),
            headers=wire.headers(api_key, admin_key),
            timeout=httpx.Timeout(timeout_s, connect=10.0),
            trust_env=False,
        )
        self._tasks_per_request = tasks_per_request
        self._api_key = api_key
        self._paraphrases = None if paraphrases is None else ParaphraseJournal(paraphrases)
        self._files = ExitStack()
        self._patience = wire.Patience(patience_s)
        self._model: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections, and the file of paraphrases."""
        self._files.close()
        self._http.close()

    def score(
        self,
        tasks: Iterable[Task],
        config: ScoreConfig,
        on_skip: Callable[[SkippedTask], None] | None = None,
    ) -> Iterator[TaskScore]:
        """Yields the score of each task as it is finished, each task once.

        Args:
            tasks: The tasks.
            config: What to measure.
            on_skip: Called with every task that cannot be scored; without it, such a task is an
                error.

        Only the instances that the design samples are sent. A stream that breaks off is taken up
        where it ended; should other weights be live by then, the scores say so.

        Raises:
            InputError: If the server finds fault with a task, or a text has no paraphrase.
            EngineError: If the server cannot be reached, fails, or its answer breaks off.
        """
        waiting = iter(tasks)
        while some := tuple(itertools.islice(waiting, self._tasks_per_request)):
            design = config
            if self._paraphrases is not None and asks_for_paraphrases(config):
                url = str(self._http.base_url)
                design = fill_from(self._opened(), config, some, url, self._api_key)
            yield from self._score_batch(
                wire.Batch.of(some, design, "skip" if on_skip else "error"), on_skip
            )

    def _opened(self) -> ParaphraseJournal:
        """The file of paraphrases, which stays open: it may be large."""
        assert self._paraphrases is not None
        if not self._paraphrases.is_open:
            self._files.enter_context(self._paraphrases)
        return self._paraphrases

    def _score_batch(
        self, batch: wire.Batch, on_skip: Callable[[SkippedTask], None] | None
    ) -> Iterator[TaskScore]:
        """The scores of a batch, over as many requests as it takes."""
        while not batch.complete:
            try:
                for score in self._stream(batch):
                    self._patience.progress()
                    if isinstance(score, TaskScore):
                        yield score
                    elif on_skip is not None:
                        on_skip(score)
            except wire.UnavailableError as error:
                time.sleep(self._patience.pause(error))

    def _stream(self, batch: wire.Batch) -> Iterator[TaskScore | SkippedTask]:
        """The scores of one request; returns after right totals."""
        buffer = wire.LineBuffer()
        try:
            with self._http.stream(
                "POST", wire.SCORE_PATH, content=batch.request(), headers=wire.JSON
            ) as response:
                if response.status_code != httpx.codes.OK:
                    response.read()
                    wire.decoded(response, wire.SCORE_PATH)
                for chunk in response.iter_bytes():
                    for line in buffer.feed(chunk):
                        score = batch.take(line)
                        if score is None:
                            return
                        yield score
        except httpx.HTTPError as error:
            raise wire.cut(error) from error
        raise batch.broken_off()

    def completion_logprobs(self, pairs: Sequence[TokenPair]) -> CompletionLogprobsResponse:
        """Log-probabilities of fixed completions.

        Raises:
            InputError: If a pair is longer than the context or holds an unknown token id.
            EngineError: If the server cannot be reached or fails.
        """
        body = CompletionLogprobsRequest(pairs=tuple(pairs))
        return self._ask("POST", "/v1/completion_logprobs", body, CompletionLogprobsResponse)

    def weights(self) -> WeightsState:
        """Which weights are live.

        Raises:
            EngineError: If the server cannot be reached or fails.
        """
        return self._ask("GET", "/v1/weights", None, WeightsState)

    def ready(self) -> Readiness:
        """Returns when the server can score.

        Raises:
            EngineError: If it cannot be reached, or does not get ready in time.
        """
        return self._ask("GET", "/ready", None, Readiness)

    def load_weights(
        self, path: Path, version: str, kind: WeightsKind | None = None
    ) -> WeightsState:
        """Makes a published checkpoint or adapter live; returns when the server has verified it.

        Args:
            path: Its folder.
            version: The version its manifest names.
            kind: The kind its manifest must name; None: any.

        Raises:
            InputError: If it was refused before anything was touched.
            EngineError: If it could not be made live.
        """
        body = LoadWeightsRequest(path=str(path.resolve()), version=version, kind=kind)
        return self._ask("POST", "/v1/weights", body, WeightsState)

    def generate(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, end: int | None = None
    ) -> list[str]:
        """Greedy outputs of prompts given as token ids, decoded, in order.

        They are over at the model's own end of sequence, or at the token `end`.

        Raises:
            EngineError: If the server cannot be reached or fails.
        """
        if not prompts:
            return []
        if self._model is None:
            self._model = wire.first_model(self._call("GET", "/v1/models"), "/v1/models")
        path = "/v1/completions"
        body = wire.completion_body(self._model, prompts, max_tokens, end)
        answer = self._call("POST", path, body)
        return wire.completion_texts(answer, len(prompts), path)

    def _ask(self, method: str, path: str, body: Record | None, kind: type[_R]) -> _R:
        answer = self._call(method, path, body.model_dump_json() if body else None)
        return wire.parsed(answer, kind, path)

    def _call(self, method: str, path: str, content: str | None = None) -> Any:
        while True:
            try:
                answer = self._try(method, path, content)
            except wire.UnavailableError as error:
                time.sleep(self._patience.pause(error))
            else:
                self._patience.progress()
                return answer

    def _try(self, method: str, path: str, content: str | None) -> Any:
        try:
            response = self._http.request(method, path, content=content, headers=wire.JSON)
        except httpx.HTTPError as error:
            url = str(self._http.base_url).rstrip("/") + path
            raise wire.unreachable(error, method, url) from error
        return wire.decoded(response, path)
