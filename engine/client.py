"""The client of a scoring server."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import ValidationError

from engine.api import (
    CompletionLogprobsRequest,
    CompletionLogprobsResponse,
    LoadWeightsRequest,
    PromptUncertaintyRequest,
    StreamTotals,
    TaskScore,
    TokenPair,
    WeightsState,
)
from engine.config import ScoreConfig
from engine.errors import EngineError, InputError
from engine.paraphrase_journal import ParaphraseJournal
from engine.paraphrases import asks_for_paraphrases, fill_from
from engine.tasks import Record, Task

_R = TypeVar("_R", bound=Record)


class EngineClient:
    """Talks to one scoring server; a context manager.

    Args:
        base_url: Where the server is, without `/v1`.
        api_key: Sent as bearer token, if given.
        timeout_s: Longest silence of the server in the middle of an answer, in seconds. A load of
            weights or the first task of a large request may take long; nothing may take for ever.
        tasks_per_request: Tasks sent at once. Bounds the memory of both sides.
        paraphrases: The file that keeps paraphrases. With it, those that a design lacks are asked
            for before its tasks are scored; see `engine.paraphrases`.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        timeout_s: float = 600.0,
        tasks_per_request: int = 64,
        paraphrases: Path | None = None,
    ) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(
            base_url=base_url,
            headers=headers,
            timeout=httpx.Timeout(timeout_s, connect=10.0),
            trust_env=False,
        )
        self._tasks_per_request = tasks_per_request
        self._api_key = api_key
        self._paraphrases = paraphrases
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
        """Closes the connections."""
        self._http.close()

    def score(self, tasks: Iterable[Task], config: ScoreConfig) -> Iterator[TaskScore]:
        """Yields the score of each task as it is finished.

        Only the instances that the design samples are sent.

        Raises:
            InputError: If the server finds fault with a task, or a text has no paraphrase.
            EngineError: If the server cannot be reached, fails, or its answer breaks off.
        """
        waiting = iter(tasks)
        with ExitStack() as stack:
            journal = None
            if self._paraphrases is not None and asks_for_paraphrases(config):
                journal = stack.enter_context(ParaphraseJournal(self._paraphrases))
            while batch := tuple(itertools.islice(waiting, self._tasks_per_request)):
                design = config
                if journal is not None:
                    url = str(self._http.base_url)
                    design = fill_from(journal, config, batch, url, self._api_key)
                yield from self._score_batch(batch, design)

    def _score_batch(self, tasks: tuple[Task, ...], config: ScoreConfig) -> Iterator[TaskScore]:
        sampled = tuple(
            task.model_copy(
                update={"instances": task.sample_instances(config.n_instances, config.seed)}
            )
            for task in tasks
        )
        # The paraphrases of a whole pool would be sent with every batch.
        perturbation = config.perturbation.only_for(sampled)
        config = config.model_copy(update={"perturbation": perturbation})
        body = PromptUncertaintyRequest(tasks=sampled, config=config, stream=True)
        received = 0
        try:
            with self._http.stream(
                "POST", "/v1/prompt_uncertainty", content=body.model_dump_json(), headers=_JSON
            ) as response:
                if response.status_code != httpx.codes.OK:
                    response.read()
                    raise _failure(response.status_code, response.content)
                for line in _lines(response):
                    record = _score_or_totals(line)
                    if isinstance(record, TaskScore):
                        received += 1
                        yield record
                    elif record.tasks == received == len(tasks):
                        return
                    else:
                        raise EngineError(
                            f"{len(tasks)} tasks were asked for, the server says it sent "
                            f"{record.tasks} scores, {received} arrived"
                        )
        except httpx.HTTPError as error:
            raise EngineError(f"scoring broke off: {_reason(error)}") from error
        raise EngineError(f"scoring broke off after {received} of {len(tasks)} tasks")

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

    def load_weights(self, path: Path, version: str) -> WeightsState:
        """Makes a published checkpoint live; returns when the server has verified it.

        Raises:
            InputError: If the checkpoint was refused before anything was touched.
            EngineError: If it could not be made live.
        """
        body = LoadWeightsRequest(path=str(path.resolve()), version=version)
        return self._ask("POST", "/v1/weights", body, WeightsState)

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> list[str]:
        """Greedy outputs of prompts given as token ids, decoded, in order.

        Raises:
            EngineError: If the server cannot be reached or fails.
        """
        if not prompts:
            return []
        path = "/v1/completions"
        body = {
            "model": self._served_model(),
            "prompt": [list(prompt) for prompt in prompts],
            "max_tokens": max_tokens,
            "temperature": 0,
        }
        answer = self._call("POST", path, json.dumps(body))
        try:
            texts = {int(choice["index"]): str(choice["text"]) for choice in answer["choices"]}
            return [texts[index] for index in range(len(prompts))]
        except (LookupError, TypeError, ValueError) as error:
            raise _not_understood(path) from error

    def _served_model(self) -> str:
        if self._model is None:
            path = "/v1/models"
            answer = self._call("GET", path)
            try:
                self._model = str(answer["data"][0]["id"])
            except (LookupError, TypeError) as error:
                raise _not_understood(path) from error
        return self._model

    def _ask(self, method: str, path: str, body: Record | None, kind: type[_R]) -> _R:
        answer = self._call(method, path, body.model_dump_json() if body else None)
        try:
            return kind.model_validate(answer)
        except ValidationError as error:
            raise _not_understood(path) from error

    def _call(self, method: str, path: str, content: str | None = None) -> Any:
        try:
            response = self._http.request(method, path, content=content, headers=_JSON)
        except httpx.HTTPError as error:
            url = str(self._http.base_url).rstrip("/") + path
            raise EngineError(f"{method} {url}: {_reason(error)}") from error
        if response.status_code != httpx.codes.OK:
            raise _failure(response.status_code, response.content)
        try:
            return response.json()
        except ValueError as error:
            raise _not_understood(path) from error


_JSON = {"Content-Type": "application/json"}


def _lines(response: httpx.Response) -> Iterator[bytes]:
    """The finished lines of an answer.

    Those of httpx end at U+2028 and its like as well, which JSON leaves as they are inside texts.
    """
    rest = b""
    for chunk in response.iter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines


def _score_or_totals(line: bytes) -> TaskScore | StreamTotals:
    """What a line of a streamed answer says; the error, if it is one."""
    try:
        record = json.loads(line)
        if "error" not in record:
            return (StreamTotals if "done" in record else TaskScore).model_validate(record)
        status = int(record["error"]["code"])
    except (LookupError, TypeError, ValueError) as error:
        raise _not_understood("/v1/prompt_uncertainty") from error
    raise _failure(status, line)


def _not_understood(path: str) -> EngineError:
    return EngineError(f"{path}: the server's answer is not understood")


def _failure(status: int, body: bytes) -> Exception:
    """The error that an answer of the server stands for."""
    try:
        error = json.loads(body)["error"]
        message, field = str(error["message"]), error.get("param")
    except (ValueError, KeyError, TypeError, AttributeError):
        message, field = body.decode(errors="replace")[:500], None
    if status in (httpx.codes.BAD_REQUEST, httpx.codes.UNPROCESSABLE_ENTITY):
        wrong = InputError(message)
        wrong.field = field
        return wrong
    return EngineError(f"the engine answered {status}: {message}")


def _reason(error: httpx.HTTPError) -> str:
    return str(error) or type(error).__name__
