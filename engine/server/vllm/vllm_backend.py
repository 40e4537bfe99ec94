"""Generation, sampling and exact scoring of fixed outputs on a vLLM engine client."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vllm.engine.protocol import EngineClient
from vllm.exceptions import MaxQueuedTokensError, QueueOverflowError
from vllm.inputs.engine import tokens_input
from vllm.logprobs import FlatLogprobs
from vllm.outputs import RequestOutput
from vllm.sampling_params import MAX_LOGPROB_TOKEN_IDS, RequestOutputKind, SamplingParams
from vllm.v1.engine.exceptions import EngineGenerateError

from engine.errors import EngineError
from engine.process.settings import FILLED_BLOCKS_VARIABLE
from engine.questions.backend import Generated, PlannedSample, Sampled, Scored, checked_logprobs
from engine.server.vllm import shared_tails
from engine.server.vllm.direct_requests import direct_requests
from engine.server.vllm.pair_paths import (
    Complete,
    FixedIds,
    OurRows,
    PairPath,
    SampledLast,
    as_it_is,
    one_token,
    row_logprob,
)
from engine.server.vllm.rounding import engine_precision

_FULL_SECONDS, _LONGEST_FULL_SECONDS = 0.05, 1.0
"""First and longest pause between tries to place a request that the engine's bounds keep out."""

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


def _path(config: Any, extensions: Extensions, complete: Complete) -> PairPath:
    if config.use_v2_model_runner:
        return OurRows(complete) if extensions.output_rows else FixedIds(complete)
    drafts = config.speculative_config is not None
    return SampledLast(ours=extensions.output_rows, drafts=drafts, complete=complete)


def _filling_path(config: Any, extensions: Extensions, complete: Complete) -> PairPath | None:
    """The way that fills blocks, where a sample can take over the tokens of a block's head."""
    if not extensions.shared_tails or os.environ.get(FILLED_BLOCKS_VARIABLE) == "0":
        return None
    if config.use_v2_model_runner:  # it would project all rows of the step, not those of the output
        return None
    return SampledLast(
        ours=extensions.output_rows,
        block=config.cache_config.block_size,
        longest=config.model_config.max_model_len,
        complete=complete,
    )


class VllmBackend:
    """Implements `engine.questions.backend.PairBackend` on top of vLLM.

    Args:
        client: The engine client of the API server.
        salt: Salt of the prefix cache. It holds the weights version, so that no block computed with
            other weights is ever read.
        extensions: What the workers have installed.
        slots: Engine requests at once, shared by all requests to the server: a queue inside the
            engine would hold the memory of every one. None: as many as a caller cares to send.

    Attributes:
        n_replicas: Data-parallel ranks that this client can reach.
        precision: See `engine.server.vllm.rounding.engine_precision`.
        tells_candidates: See `engine.questions.backend.PairBackend`.
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
        self._extensions, self._mark = extensions, shared_tails.mark_of(config)
        self._direct = direct_requests(client)
        complete = self._direct.prepared if self._direct else as_it_is
        self._path = _path(config, extensions, complete)
        self._filling = _filling_path(config, extensions, complete)
        self._client = client
        self._salt = salt
        self.tokenizer: Any = client.renderer.get_tokenizer()
        self.max_model_len: int = config.model_config.max_model_len
        self.precision = engine_precision(config)
        self.tells_candidates = config.speculative_config is None
        # As many as one scheduler step takes, and as many again to fill the next step at once.
        parallel = config.parallel_config
        self.n_replicas: int = (
            parallel.data_parallel_size_local
            if parallel.local_engines_only
            else parallel.data_parallel_size
        )
        at_once = 2 * config.scheduler_config.max_num_seqs * self.n_replicas
        most = config.scheduler_config.max_num_queued_reqs or at_once
        self.max_in_flight: int = min(at_once, most)

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
            EngineGenerateError: If the request is aborted.
            EngineError: If it ends for an unknown reason.
        """
        params = SamplingParams(
            max_tokens=max_tokens,
            temperature=0.0,
            stop_token_ids=[end],
            logprobs=0,
            detokenize=False,
            flat_logprobs=True,
            extra_args=self._marks(prompt) or None,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        output = await self._run(prompt, params, name, group)
        (completion,) = output.outputs
        token_ids = tuple(completion.token_ids)
        if completion.finish_reason not in ("stop", "length") or not token_ids:
            raise EngineError(f"{name}: generation ended with {completion.finish_reason!r}")
        rows = completion.logprobs
        assert isinstance(rows, FlatLogprobs)
        logprobs = [row_logprob(rows, index, token) for index, token in enumerate(token_ids)]
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
            EngineGenerateError: If the request is aborted.
            EngineError: If it ends for an unknown reason.
        """
        params = SamplingParams(
            max_tokens=planned.max_tokens,
            temperature=planned.temperature,
            top_p=planned.top_p,
            seed=planned.seed,
            stop_token_ids=[planned.end],
            detokenize=False,
            extra_args=self._marks(planned.prompt) or None,
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
        self,
        prompt: tuple[int, ...],
        output: tuple[int, ...],
        name: str,
        group: int,
        *,
        again: bool = False,
        continued: bool = False,
    ) -> Scored:
        """Log-probabilities of the output's tokens after the prompt.

        vLLM fills the rows of cached positions with nothing at all. Where a hit in the cache is not
        bound to end before the output's first row (`engine.server.vllm.bounded_hits`), the pair is
        scored again without the cache.

        A second reading has a salt of its own: its prefixes are shared with other second readings
        and with nothing else.
        """
        marks = self._marks(prompt)
        path = self._filling if self._filling and continued else self._path
        for rescored in (False, True):
            submitted, params = path.ask(prompt, output, marks)
            params.skip_reading_prefix_cache = rescored
            result = await self._run(submitted, params, name, group, again=again, pair=True)
            if (rows := path.read(result, submitted, prompt, output)) is not None:
                return Scored(
                    checked_logprobs(rows.logprobs, name),
                    len(submitted) * (1 + rescored),
                    result.num_cached_tokens or 0,
                    rescored,
                    rows.is_greedy,
                )
        raise EngineError(f"pair {name}: the engine computed no rows for its output")

    async def candidates(
        self, before: tuple[int, ...], ids: tuple[int, ...], name: str, group: int
    ) -> Scored:
        """How likely each of some tokens is right after others.

        vLLM tells those of chosen ids for the token that it samples, and for no other.
        """
        found: list[float | None] = []
        submitted = reused = 0
        for first in range(0, len(ids), MAX_LOGPROB_TOKEN_IDS):
            some = ids[first : first + MAX_LOGPROB_TOKEN_IDS]
            params = one_token(flat_logprobs=True)
            params.logprob_token_ids = list(some)
            params.extra_args = self._marks(before) or None
            result = await self._run(before, params, name, group)
            rows = result.outputs[0].logprobs
            assert isinstance(rows, FlatLogprobs)
            found += [row_logprob(rows, 0, token) for token in some]
            submitted, reused = submitted + len(before), reused + (result.num_cached_tokens or 0)
        return Scored(checked_logprobs(found, name), submitted, reused, rescored=False)

    def _marks(self, prompt: tuple[int, ...]) -> dict[str, int]:
        """What our extensions read. The last token of a prompt predicts; it is always computed."""
        return {self._mark: len(prompt) - 1} if self._extensions.shared_tails else {}

    async def _run(
        self,
        token_ids: Sequence[int],
        params: SamplingParams,
        name: str,
        group: int,
        *,
        again: bool = False,
        pair: bool = False,
    ) -> RequestOutput:
        """The final output of a request; `pair`: its parameters are those of a path.

        Raises:
            EngineGenerateError: If it is aborted, which the engine does to all requests when it
                ends or pauses: no fault of what was asked, and no `EngineError`.
            EngineError: If it ends without an answer.
        """
        salt = f"{self._salt}/again" if again else self._salt
        rank = group % self.n_replicas if self.n_replicas > 1 else None
        final: RequestOutput | None = None
        async with self._slots:
            for tries in itertools.count():
                try:
                    if pair and self._direct:
                        final = await self._direct.run(list(token_ids), params, salt, rank)
                        break
                    stream = self._client.generate(
                        tokens_input(prompt_token_ids=list(token_ids), cache_salt=salt),
                        params,
                        request_id=f"jostle-{next(_request_numbers)}",
                        data_parallel_rank=rank,
                    )
                    async for output in stream:
                        final = output
                    break
                except (QueueOverflowError, MaxQueuedTokensError):
                    await asyncio.sleep(min(_FULL_SECONDS * 2**tries, _LONGEST_FULL_SECONDS))
        if final is None or not final.finished:
            raise EngineError(f"{name}: the engine ended the request without an answer")
        if any(completion.finish_reason == "abort" for completion in final.outputs):
            raise EngineGenerateError(f"{name}: the engine aborted the request")
        return final
