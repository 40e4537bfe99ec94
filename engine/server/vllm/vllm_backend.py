"""Generation, sampling and exact scoring of fixed outputs on a vLLM engine client."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from vllm.engine.protocol import EngineClient
from vllm.inputs.engine import tokens_input
from vllm.logprobs import FlatLogprobs
from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams

from engine.errors import EngineError
from engine.questions.backend import Generated, PlannedSample, Sampled, Scored, checked_logprobs
from engine.server.vllm import shared_tails
from engine.server.vllm.output_rows import MARK, OUTPUT_MARK

_request_numbers = itertools.count()
# Several API server processes must not all begin with the same rank.
_group_numbers = itertools.count(os.getpid())


@dataclass(frozen=True, slots=True)
class Extensions:
    """Which of our extensions of vLLM's workers requests may ask for.

    Attributes:
        output_rows: `engine.server.vllm.output_rows`.
        shared_tails: `engine.server.vllm.shared_tails`.
    """

    output_rows: bool = False
    shared_tails: bool = False


NONE = Extensions()


@dataclass(frozen=True, slots=True)
class _Rows:
    """What the engine says of an output's tokens, and how many it got and had."""

    logprobs: list[float | None]
    is_greedy: tuple[bool, ...] | None
    n_submitted: int
    n_reused: int


class VllmBackend:
    """Implements `engine.questions.scorer.Backend` on top of vLLM.

    Args:
        client: The engine client of the API server.
        salt: Salt of the prefix cache. It holds the weights version, so that no block computed with
            other weights is ever read.
        extensions: What the workers have installed.
        slots: Engine requests at once, shared by all requests to the server: a queue inside the
            engine would hold the memory of every one. None: as many as a caller cares to send.

    Attributes:
        n_replicas: Data-parallel ranks that this client can reach.
    """

    def __init__(
        self,
        client: EngineClient,
        salt: str,
        *,
        extensions: Extensions = NONE,
        slots: asyncio.Semaphore | None = None,
    ) -> None:
        self._slots = slots or contextlib.nullcontext()
        config = client.vllm_config
        self._extensions = extensions
        self._v2_runner = bool(config.use_v2_model_runner)
        self._client = client
        self._salt = salt
        self.tokenizer: Any = client.renderer.get_tokenizer()
        self.max_model_len: int = config.model_config.max_model_len
        # As many as one scheduler step takes, and as many again to fill the next step at once.
        parallel = config.parallel_config
        self.n_replicas: int = (
            parallel.data_parallel_size_local
            if parallel.local_engines_only
            else parallel.data_parallel_size
        )
        self.max_in_flight: int = 2 * config.scheduler_config.max_num_seqs * self.n_replicas

    def new_group(self) -> int:
        """A group for the calls of one task: the next data-parallel rank's turn."""
        return next(_group_numbers)

    async def generate(
        self, prompt: tuple[int, ...], max_tokens: int, end: int, name: str, group: int
    ) -> Generated:
        """The greedy output of a prompt; the token that ends it counts as a token of it.

        It ends with `end`, the tokenizer's end of sequence or one that the model's generation
        config names; nothing else of that config counts here.

        Raises:
            EngineError: If the request is aborted or ends for an unknown reason.
        """
        params = SamplingParams(
            max_tokens=max_tokens,
            temperature=0.0,
            stop_token_ids=[end],
            logprobs=0,
            detokenize=False,
            flat_logprobs=True,
            extra_args=self._marks(prompt),
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        output = await self._run(prompt, params, name, group)
        (completion,) = output.outputs
        token_ids = tuple(completion.token_ids)
        if completion.finish_reason not in ("stop", "length") or not token_ids:
            raise EngineError(f"{name}: generation ended with {completion.finish_reason!r}")
        rows = completion.logprobs
        assert isinstance(rows, FlatLogprobs)
        logprobs = [_row_logprob(rows, index, token) for index, token in enumerate(token_ids)]
        return Generated(
            token_ids=token_ids,
            token_logprobs=checked_logprobs(logprobs, f"{name}/j=0"),
            finish_reason=completion.finish_reason,
            n_submitted=len(prompt),
            n_reused=output.num_cached_tokens or 0,
        )

    async def sample(self, planned: PlannedSample, group: int) -> Sampled:
        """A sampled output, the token that ends it counted as a token of it; see `generate`.

        Raises:
            EngineError: If the request is aborted or ends for an unknown reason.
        """
        params = SamplingParams(
            max_tokens=planned.max_tokens,
            temperature=planned.temperature,
            top_p=planned.top_p,
            seed=planned.seed,
            stop_token_ids=[planned.end],
            detokenize=False,
            extra_args=self._marks(planned.prompt),
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        output = await self._run(planned.prompt, params, planned.name, group)
        (completion,) = output.outputs
        token_ids = tuple(completion.token_ids)
        if completion.finish_reason not in ("stop", "length") or not token_ids:
            raise EngineError(f"{planned.name}: sampling ended with {completion.finish_reason!r}")
        return Sampled(
            token_ids=token_ids,
            finish_reason=completion.finish_reason,
            n_submitted=len(planned.prompt),
            n_reused=output.num_cached_tokens or 0,
        )

    async def score(
        self, prompt: tuple[int, ...], output: tuple[int, ...], name: str, group: int
    ) -> Scored:
        """Log-probabilities of the output's tokens after the prompt.

        The last output token is not submitted: it is what the engine predicts next, so its
        log-probability comes with the sampled token, and one position less is computed.

        vLLM fills the rows of cached positions with nothing at all. A row predicts the token behind
        it, so the rows of output tokens are right as long as the cache ends before the last prompt
        token; if it reaches further, the pair is scored again without the cache.
        """
        score = self._score_v1
        if self._v2_runner:
            score = self._score_rows if self._extensions.output_rows else self._score_fixed_ids
        scored = await score(prompt, output, name, group, read_cache=True)
        rescored = scored is None
        if scored is None:
            scored = await score(prompt, output, name, group, read_cache=False)
        if scored is None:
            raise EngineError(f"pair {name}: the engine computed no rows for its output")
        return Scored(
            checked_logprobs(scored.logprobs, name),
            scored.n_submitted * (1 + rescored),
            scored.n_reused,
            rescored,
            scored.is_greedy,
        )

    async def _score_v1(
        self,
        prompt: tuple[int, ...],
        output: tuple[int, ...],
        name: str,
        group: int,
        *,
        read_cache: bool,
    ) -> _Rows | None:
        """The output's rows; None if the cache covers output tokens."""
        inner, last = output[:-1], output[-1]
        params = SamplingParams(
            max_tokens=1,
            temperature=0.0,
            logprob_token_ids=[last],
            prompt_logprobs=0 if inner else None,
            skip_reading_prefix_cache=not read_cache,
            detokenize=False,
            flat_logprobs=True,
            extra_args=self._marks(prompt, scored=True),
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        result = await self._run(prompt + inner, params, name, group)
        reused = result.num_cached_tokens or 0
        if inner and reused >= len(prompt):
            return None
        logprobs: list[float | None] = []
        is_greedy: list[bool] = []
        if inner:
            rows = result.prompt_logprobs
            assert isinstance(rows, FlatLogprobs)
            # Counted from the end, where both the stock path and ours have the output's rows.
            first = len(rows) - len(inner)
            logprobs = [_row_logprob(rows, first + i, token) for i, token in enumerate(inner)]
            is_greedy = [rows.ranks[rows.start_indices[first + i]] == 1 for i in range(len(inner))]
        sampled = result.outputs[0].logprobs
        assert isinstance(sampled, FlatLogprobs)
        value = _row_logprob(sampled, 0, last)
        logprobs.append(value)
        # vLLM ranks the token that it sampled alone, which is the likeliest and comes first.
        is_greedy.append(value is not None and value >= sampled.logprobs[0])
        return _Rows(logprobs, tuple(is_greedy), len(prompt) + len(inner), reused)

    async def _score_rows(
        self,
        prompt: tuple[int, ...],
        output: tuple[int, ...],
        name: str,
        group: int,
        *,
        read_cache: bool,
    ) -> _Rows | None:
        """The same on the V2 runner, by `engine.server.vllm.output_rows_v2`."""
        params = SamplingParams(
            max_tokens=1,
            temperature=0.0,
            skip_reading_prefix_cache=not read_cache,
            detokenize=False,
            extra_args={MARK: len(prompt) - 1, OUTPUT_MARK: list(output)},
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        submitted = prompt + output[:-1]
        result = await self._run(submitted, params, name, group)
        rows = result.prompt_token_id_logprobs
        if rows is None:
            return None
        is_greedy = tuple((rows[:, 1] == 0).tolist())
        return _Rows(rows[:, 0].tolist(), is_greedy, len(submitted), result.num_cached_tokens or 0)

    async def _score_fixed_ids(
        self,
        prompt: tuple[int, ...],
        output: tuple[int, ...],
        name: str,
        group: int,
        *,
        read_cache: bool,
    ) -> _Rows | None:
        """The same on the V2 runner, which scores chosen ids from a chosen row on by itself."""
        params = SamplingParams(
            max_tokens=1,
            temperature=0.0,
            prompt_logprob_token_ids=np.array(output, dtype=np.int32).reshape(-1, 1),
            prompt_logprob_start=len(prompt) - 1,
            skip_reading_prefix_cache=not read_cache,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        result = await self._run(prompt + output, params, name, group)
        rows = result.prompt_token_id_logprobs
        if rows is None:  # it drops the scores of a request whose first row is cached
            return None
        logprobs: list[float | None] = [float(row[0]) for row in rows]
        return _Rows(logprobs, None, len(prompt) + len(output), result.num_cached_tokens or 0)

    def _marks(self, prompt: tuple[int, ...], *, scored: bool = False) -> dict[str, int] | None:
        """What our extensions read. The last token of a prompt predicts; it is always computed."""
        last = len(prompt) - 1
        marks: dict[str, int] = {}
        if scored and self._extensions.output_rows:
            marks[MARK] = last
        if self._extensions.shared_tails:
            marks[shared_tails.MARK] = last
        return marks or None

    async def _run(
        self, token_ids: Sequence[int], params: SamplingParams, name: str, group: int
    ) -> RequestOutput:
        final: RequestOutput | None = None
        async with self._slots:
            stream = self._client.generate(
                tokens_input(prompt_token_ids=list(token_ids), cache_salt=self._salt),
                params,
                request_id=f"jostle-{next(_request_numbers)}",
                data_parallel_rank=group % self.n_replicas if self.n_replicas > 1 else None,
            )
            async for output in stream:
                final = output
        if final is None or not final.finished:
            raise EngineError(f"{name}: the engine ended the request without an answer")
        if any(completion.finish_reason == "abort" for completion in final.outputs):
            raise EngineError(f"{name}: the engine aborted the request")
        return final


def _row_logprob(rows: FlatLogprobs, position: int, token_id: int) -> float | None:
    """The log-probability of a token at its position, looked up by its id."""
    for entry in range(rows.start_indices[position], rows.end_indices[position]):
        if rows.token_ids[entry] == token_id:
            return rows.logprobs[entry]
    return None
