"""Generation and exact scoring of fixed outputs on a vLLM engine client."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from vllm.engine.protocol import EngineClient
from vllm.inputs.engine import tokens_input
from vllm.logprobs import FlatLogprobs
from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams

from engine.errors import EngineError
from engine.scoring import Generated, Scored, checked_logprobs

_request_numbers = itertools.count()


class VllmBackend:
    """Implements `engine.scoring.Backend` on top of vLLM.

    Args:
        client: The engine client of the API server.
        salt: Salt of the prefix cache. It holds the weights version, so that no block computed with
            other weights is ever read.
    """

    def __init__(self, client: EngineClient, salt: str) -> None:
        config = client.vllm_config
        self._client = client
        self._salt = salt
        self.tokenizer: Any = client.renderer.get_tokenizer()
        self.max_model_len: int = config.model_config.max_model_len
        # As many as one scheduler step takes, and as many again to fill the next step at once.
        self.max_in_flight: int = 2 * config.scheduler_config.max_num_seqs

    async def generate(self, prompt: tuple[int, ...], max_tokens: int, name: str) -> Generated:
        """The greedy output of a prompt; the end of sequence counts as a token of the output.

        Raises:
            EngineError: If the request is aborted or ends for an unknown reason.
        """
        params = SamplingParams(
            max_tokens=max_tokens,
            temperature=0.0,
            logprobs=0,
            detokenize=False,
            flat_logprobs=True,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        output = await self._run(prompt, params, name)
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

    async def score(self, prompt: tuple[int, ...], output: tuple[int, ...], name: str) -> Scored:
        """Log-probabilities of the output's tokens after the prompt.

        vLLM fills the rows of cached positions with nothing at all. A row predicts the token behind
        it, so the rows of output tokens are right as long as the cache ends before the last prompt
        token; if it reaches further, the pair is scored again without the cache.
        """
        result = await self._run(prompt + output, _score_params(read_cache=True), name)
        reused = result.num_cached_tokens or 0
        submitted = len(prompt) + len(output)
        rescored = reused >= len(prompt)
        if rescored:
            result = await self._run(prompt + output, _score_params(read_cache=False), name)
            submitted *= 2
        rows = result.prompt_logprobs
        assert isinstance(rows, FlatLogprobs)
        logprobs = [
            _row_logprob(rows, len(prompt) + index, token) for index, token in enumerate(output)
        ]
        return Scored(checked_logprobs(logprobs, name), submitted, reused, rescored)

    async def _run(
        self, token_ids: Sequence[int], params: SamplingParams, name: str
    ) -> RequestOutput:
        final: RequestOutput | None = None
        stream = self._client.generate(
            tokens_input(prompt_token_ids=list(token_ids), cache_salt=self._salt),
            params,
            request_id=f"jostle-{next(_request_numbers)}",
        )
        async for output in stream:
            final = output
        if final is None or not final.finished:
            raise EngineError(f"{name}: the engine ended the request without an answer")
        if any(completion.finish_reason == "abort" for completion in final.outputs):
            raise EngineError(f"{name}: the engine aborted the request")
        return final


def _score_params(*, read_cache: bool) -> SamplingParams:
    return SamplingParams(
        max_tokens=1,
        temperature=0.0,
        prompt_logprobs=0,
        skip_reading_prefix_cache=not read_cache,
        detokenize=False,
        flat_logprobs=True,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _row_logprob(rows: FlatLogprobs, position: int, token_id: int) -> float | None:
    """The log-probability of a token at its position, looked up by its id."""
    for entry in range(rows.start_indices[position], rows.end_indices[position]):
        if rows.token_ids[entry] == token_id:
            return rows.logprobs[entry]
    return None
