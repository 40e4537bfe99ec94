"""The client of a scoring server, for asyncio; `EngineClient` is its blocking face."""

from __future__ import annotations

import itertools
import math
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, aclosing
from pathlib import Path
from typing import Any

from engine.client import wire
from engine.client.connection import Connection
from engine.client.line_stream import Streamed
from engine.client.pair_stream import PairBatches
from engine.client.paraphrase_journal import ParaphraseJournal
from engine.client.paraphrases import EngineAt, asks_for_paraphrases, fill_from
from engine.client.sampling import (
    SAMPLE_PATH,
    TOKENIZE_PATH,
    Prompt,
    samples_of,
    tokenize_body,
    tokens_of,
)
from engine.client.score_stream import Batch
from engine.client.sendable import sendable_tasks
from engine.errors import EngineError, InputError
from engine.protocol.api import SkippedTask, TaskScore
from engine.protocol.completions import (
    CompletionLogprobs,
    CompletionLogprobsRequest,
    CompletionLogprobsResponse,
    Encoding,
    Pair,
    SkippedPair,
)
from engine.protocol.limits import TooLargeError
from engine.protocol.samples import Sample
from engine.protocol.score_config import ScoreConfig
from engine.protocol.weights_state import (
    LoadWeightsRequest,
    Readiness,
    Verification,
    WeightsKind,
    WeightsState,
)
from engine.tasks import Task

_AS_IS = Encoding()


class AsyncEngineClient(Connection):
    """Talks to one scoring server; an async context manager.

    What may be tried again is: a refused connection, a 408, 429, 502, 503 or 504, an answer that
    was cut. A stream of scores that is cut is taken up with the tasks that are missing. Only a load
    of weights that was cut, or lost by a proxy (502, 504), is not tried again, as it may have been
    done; nor is a call that took too long. Calls may run side by side.

    Args:
        base_url: Where the server is, such as `http://127.0.0.1:8000`; `/v1` at its end is let go.
        api_key: Sent as bearer token, if given.
        timeout_s: Longest silence of the server in the middle of an answer, in seconds. What comes
            all at once, as outputs do, may take any time, and so may a load of weights.
        tasks_per_request: Tasks sent at once. Bounds the memory of both sides.
        paraphrases: The file that keeps paraphrases. With it, those that a design lacks are asked
            for before its tasks are scored; see `engine.client.paraphrases`.
        admin_key: The key that loading weights wants, if the server has one.
        patience_s: Seconds to go on trying without any progress, once the server has answered at
            all: long enough for an engine to be started again. 0: one try. A server that was given
            up is not waited for again until it answers.
        pairs_per_request: Pairs sent at once by `logprobs`, fewer where the server takes no more.

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
        patience_s: float = wire.PATIENCE_S,
        pairs_per_request: int = 4096,
    ) -> None:
        super().__init__(base_url, api_key, timeout_s, admin_key=admin_key, patience_s=patience_s)
        self._tasks_per_request = tasks_per_request
        self._pairs_per_request = pairs_per_request
        self._api_key = api_key
        self._paraphrases = None if paraphrases is None else ParaphraseJournal(paraphrases)
        self._files = ExitStack()
        self._model: str | None = None

    def move(self, base_url: str) -> None:
        """Asks another server from now on, such as one that was started again on another port.

        Raises:
            InputError: If `base_url` is no address.
        """
        super().move(base_url)
        self._model = None

    async def close(self) -> None:
        """Closes the connections, and the file of paraphrases."""
        self._files.close()
        await super().close()

    async def score(
        self,
        tasks: Iterable[Task],
        config: ScoreConfig,
        on_skip: Callable[[SkippedTask], None] | None = None,
    ) -> AsyncGenerator[TaskScore, None]:
        """Yields the score of each task as it is finished, each task once.

        Args:
            tasks: The tasks.
            config: What to measure.
            on_skip: Called with every task that cannot be scored; without it, such a task is an
                error.

        Only the instances that the design samples are sent, and of many tasks as many at once as
        the server takes. A stream that breaks off is taken up
        where it ended; should other weights be live by then, the scores say so. Closing the
        generator closes the connection, and the server stops the work.

        Raises:
            InputError: If the server finds fault with a task, or a text has no paraphrase.
            EngineError: If the server cannot be reached, fails, or its answer breaks off.
        """
        patience = self._patience()
        waiting = sendable_tasks(tasks, on_skip)
        size = self._tasks_per_request
        while some := tuple(itertools.islice(waiting, size)):
            missing = {task.id: task for task in some}
            design = await self._with_paraphrases(config, some)
            batch = Batch.of(some, design, "skip" if on_skip else "error")
            answers: Streamed[TaskScore | SkippedTask] = batch
            try:
                async with aclosing(self._all(answers, patience)) as scores:
                    async for score in scores:
                        missing.pop(score.task_id, None)
                        if isinstance(score, TaskScore):
                            yield score
                        elif on_skip is not None:
                            on_skip(score)
            except TooLargeError as error:
                if len(missing) == 1 or error.record is not None:
                    raise
                waiting = itertools.chain(missing.values(), waiting)
                size = math.ceil(len(missing) / 2)
            else:
                size = min(size + 1, self._tasks_per_request)

    async def logprobs(
        self,
        pairs: Iterable[Pair],
        encoding: Encoding = _AS_IS,
        *,
        tokens: bool = False,
        on_skip: Callable[[SkippedPair], None] | None = None,
    ) -> AsyncGenerator[CompletionLogprobs, None]:
        """Yields the result of each pair as it is finished, each pair once.

        Args:
            pairs: The pairs, any number; so many are read and kept as one request holds.
            encoding: How texts become token ids.
            tokens: Whether results tell of each token.
            on_skip: Called with every pair that cannot be scored; without it, such a pair is an
                error.

        A stream that breaks off is taken up where it ended; should other weights be live by then,
        the results say so.

        Raises:
            InputError: If the server finds fault with a pair; its record is `pairs[i]`.
            EngineError: If the server cannot be reached, fails, or its answer breaks off.
        """
        patience = self._patience()
        most = self._pairs_per_request
        batches = PairBatches(pairs, encoding, tokens=tokens, on_skip=on_skip, most_pairs=most)
        for batch in batches:
            answers: Streamed[CompletionLogprobs | SkippedPair] = batch
            try:
                async with aclosing(self._all(answers, patience)) as results:
                    async for result in results:
                        if isinstance(result, CompletionLogprobs):
                            yield result
                        elif on_skip is not None:
                            on_skip(result)
            except (InputError, EngineError) as error:
                if not batches.cut(batch, error):
                    batch.renumber(error)
                    raise

    async def completion_logprobs(
        self, pairs: Sequence[Pair], encoding: Encoding = _AS_IS, *, tokens: bool = False
    ) -> CompletionLogprobsResponse:
        """Log-probabilities of fixed completions, all in one request; see `logprobs`.

        Raises:
            InputError: If the server finds fault with a pair.
            EngineError: If the server cannot be reached or fails.
        """
        body = CompletionLogprobsRequest(pairs=tuple(pairs), tokens=tokens, **encoding.model_dump())
        return await self._ask("POST", wire.COMPLETIONS_PATH, body, CompletionLogprobsResponse)

    async def weights(self) -> WeightsState:
        """Which weights are live.

        Raises:
            EngineError: If the server cannot be reached or fails.
        """
        return await self._ask("GET", "/v1/weights", None, WeightsState)

    async def ready(self) -> Readiness:
        """Returns when the server can score.

        Raises:
            EngineError: If it cannot be reached, or does not get ready in time.
        """
        return await self._ask("GET", "/ready", None, Readiness)

    async def load_weights(
        self,
        path: Path,
        version: str | None,
        kind: WeightsKind | None = None,
        verify: Verification = "probes",
    ) -> WeightsState:
        """Makes a published checkpoint or adapter live; returns when the server has verified it.

        Args:
            path: Its folder.
            version: The version its manifest names.
            kind: The kind its manifest must name; None: any.
            verify: `files` for a folder without a manifest, whose version may be None; see
                `LoadWeightsRequest`.

        Raises:
            InputError: If it was refused before anything was touched.
            EngineError: If it could not be made live.
        """
        # What is not here may be a model of the hub, which the server was started with.
        if path.is_absolute() or path.exists():  # the server's machine has links of its own
            path = path.resolve() if ".." in path.parts else path.absolute()
        body = LoadWeightsRequest(path=str(path), version=version, kind=kind, verify=verify)
        return await self._ask("POST", "/v1/weights", body, WeightsState)

    async def release_weights(self) -> WeightsState:
        """Has the server free the device's memory; it serves nothing until `restore_weights`.

        Raises:
            InputError: If it was not started with `--enable-sleep-mode`.
            EngineError: If the server cannot be reached or fails.
        """
        return await self._ask("DELETE", "/v1/weights", None, WeightsState)

    async def restore_weights(self) -> WeightsState:
        """Has the server load the live weights again; returns when it has verified them.

        Raises:
            EngineError: If the server cannot be reached or fails.
        """
        return await self._ask("PUT", "/v1/weights", None, WeightsState)

    async def generate(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, end: int | None = None
    ) -> list[str]:
        """Greedy outputs of prompts given as token ids, decoded, in order.

        They are over at the model's own end of sequence, or at the token `end`: what
        `engine.server.vllm.vllm_backend.VllmBackend.generate` generates.

        Raises:
            EngineError: If the server cannot be reached or fails.
        """
        stop = [] if end is None else [end]
        body = {"max_tokens": max_tokens, "temperature": 0.0, "stop_token_ids": stop}
        return await self.complete(prompts, body)

    async def complete(
        self, prompts: Sequence[Sequence[int]], options: Mapping[str, Any]
    ) -> list[str]:
        """Outputs of prompts given as token ids, decoded, in order.

        Args:
            options: Fields of a request to OpenAI's completions route; what they leave open, the
                temperature apart, is not taken from the model's generation config.

        Raises:
            InputError: If the server finds fault with an option or a prompt.
            EngineError: If it cannot be reached or fails.
        """
        if options.get("n", 1) != 1:
            raise InputError("is 1 here; `samples` takes several of a prompt", field="n")
        if not prompts:
            return []
        body = wire.completion_body(await self._model_name(), prompts, options)
        answer = await self._call("POST", SAMPLE_PATH, body)
        return wire.completion_texts(answer, len(prompts), SAMPLE_PATH)

    async def samples(
        self,
        prompts: Iterable[Prompt],
        n: int = 1,
        *,
        max_tokens: int = 64,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> list[Sample]:
        """So many outputs of each prompt, in order.

        They are over at the model's own end of sequence. Texts of special tokens in prompts act as
        those, as vLLM has it.

        Args:
            prompts: Texts, or conversations that the model's chat template lays out.
            n: Outputs of each.
            max_tokens: Their longest length, in tokens.
            temperature: What logits are divided by; 0 takes the likeliest token.
            top_p: Share of the probability that is drawn from.
            seed: Of the draws.

        Raises:
            InputError: If the server finds fault with a prompt.
            EngineError: If the server cannot be reached or fails.
        """
        found: list[Sample] = []
        waiting = iter(prompts)
        options = {
            "n": n,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "seed": seed,
            "return_token_ids": True,
        }
        while some := list(itertools.islice(waiting, self._tasks_per_request)):
            model = await self._model_name()
            ids = await self._tokens(model, some)
            body = wire.completion_body(model, ids, options)
            answer = await self._call("POST", SAMPLE_PATH, body)
            found += samples_of(answer, ids, n, len(found) // n)
        return found

    async def _tokens(self, model: str, prompts: Iterable[Prompt]) -> list[list[int]]:
        """Token ids of prompts, for which vLLM is asked one by one, of all at once."""
        bodies = [tokenize_body(model, prompt) for prompt in prompts]
        calls = (self._call("POST", TOKENIZE_PATH, body) for body in bodies)
        return [tokens_of(answer) for answer in await self._together(calls)]

    async def _model_name(self) -> str:
        if self._model is None:
            self._model = wire.first_model(await self._call("GET", "/v1/models"), "/v1/models")
        return self._model

    async def _with_paraphrases(self, config: ScoreConfig, tasks: Sequence[Task]) -> ScoreConfig:
        """The design with the paraphrases that it lacks."""
        journal = self._paraphrases
        if journal is None or not asks_for_paraphrases(config):
            return config
        if not journal.is_open:  # it stays so: it may be large
            self._files.enter_context(journal)
        # As `Connection` has it: only who has ever answered is waited for.
        patience_s = self._patience_s if self._met else 0.0
        engine = EngineAt(str(self._http.base_url), self._api_key, patience_s)
        return await self._aside(lambda: fill_from(journal, config, tasks, engine))
