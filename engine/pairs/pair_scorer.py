"""Scores the pairs of one request with any backend, in an order that shares prefixes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing

from engine.errors import EngineError, InputError
from engine.pairs.pair_encoder import EncodedPair, PairEncoder
from engine.pairs.token_texts import token_texts
from engine.protocol.api import Usage
from engine.protocol.completions import (
    CompletionLogprobs,
    CompletionLogprobsRequest,
    SkippedPair,
)
from engine.questions.backend import PairBackend, Scored
from engine.questions.children import end_all
from engine.questions.pair_plan import check_fits
from engine.questions.planners import in_planners

_AT_ONCE = 512
"""Pairs that are encoded together, by a thread that then sees whether anybody still waits."""

_Outcome = tuple[CompletionLogprobs | SkippedPair, Usage]


class PairScorer:
    """Scores the pairs of a request: `check`, then `score`.

    Args:
        backend: The engine.
        request: The request.
        weights_version: The version that results carry.
        vocabulary_size: Token ids are below it.
    """

    def __init__(
        self,
        backend: PairBackend,
        request: CompletionLogprobsRequest,
        weights_version: str,
        vocabulary_size: int,
    ) -> None:
        self._backend = backend
        self._request = request
        self._version = weights_version
        self._vocabulary_size = vocabulary_size
        self._encoder = PairEncoder(backend.tokenizer, request.encoding)
        self._skips = request.on_fault == "skip"
        self._pairs: list[EncodedPair] = []
        self._skipped: list[SkippedPair] = []

    async def check(self, limit: Callable[[int], object] = lambda tokens: None) -> None:
        """Encodes every pair, so that bad input fails before work starts.

        Args:
            limit: Told the tokens so far; raises if they are too many.

        Raises:
            InputError: If a pair is faulty and such are not skipped.
        """
        tokens, firsts = 0, range(0, len(self._request.pairs), _AT_ONCE)
        async with aclosing(in_planners(self._encoded, firsts)) as all_encoded:
            async for first, encoded in all_encoded:
                for index, one in enumerate(await encoded, first):
                    if isinstance(one, InputError):
                        if not self._skips:
                            raise one
                        self._skipped.append(_skipped(index, one))
                        continue
                    tokens += one.n_submitted
                    self._pairs.append(one)
                limit(tokens)
        self._pairs.sort(key=lambda pair: pair.prompt)

    def _encoded(self, first: int) -> list[EncodedPair | InputError]:
        """Some of the request's pairs, from the `first` on."""
        encoded = self._encoder.encode(self._request.pairs[first : first + _AT_ONCE], first)
        return [one if isinstance(one, InputError) else self._checked(one) for one in encoded]

    def _checked(self, pair: EncodedPair) -> EncodedPair | InputError:
        name = f"pairs[{pair.index}]"
        try:
            check_fits(pair.n_tokens, self._backend.max_model_len, name)
        except InputError as error:
            return error
        if pair.candidates and not self._backend.tells_candidates:
            problem = "an engine that decodes speculatively tells no candidates"
            return InputError(problem, record=name, field="candidate_token_ids")
        for field, ids in (
            ("prompt_token_ids", pair.prompt),
            ("completion_token_ids", pair.completion),
            *(("candidate_token_ids", ids) for ids in pair.candidates),
        ):
            if max(ids) >= self._vocabulary_size:
                problem = f"a token id is not below the vocabulary size {self._vocabulary_size}"
                return InputError(problem, record=name, field=field)
        return pair

    async def score(self) -> AsyncGenerator[_Outcome, None]:
        """Yields each pair's result and what it cost, as it is finished; skipped ones first.

        Raises:
            EngineError: If the engine fails, or answers something that is no probability and such
                pairs are not skipped. One that is dead skips none.
        """
        for skipped in self._skipped:
            yield skipped, Usage()
        n_workers = min(self._backend.max_in_flight, len(self._pairs))
        done: asyncio.Queue[_Outcome | asyncio.Task[None]] = asyncio.Queue()
        waiting = zip(self._pairs, self._groups(), strict=True)

        async def work(waiting: Iterator[tuple[EncodedPair, int]]) -> None:
            for pair, group in waiting:
                done.put_nowait(await self._score(pair, group))

        workers = [asyncio.create_task(work(waiting)) for _ in range(n_workers)]
        for worker in workers:
            worker.add_done_callback(done.put_nowait)
        try:
            left = len(self._pairs)
            while left:
                outcome = await done.get()
                if isinstance(outcome, asyncio.Task):
                    outcome.result()  # raises what went wrong
                else:
                    left -= 1
                    yield outcome
        finally:
            await end_all(workers)

    async def _score(self, pair: EncodedPair, group: int) -> _Outcome:
        name, backend = f"pairs[{pair.index}]", self._backend
        try:
            asked = [await backend.score(pair.prompt, pair.completion, name, group)]
            for place, ids in enumerate(pair.candidates_of_places):
                before = pair.prompt + pair.completion[:place]
                asked.append(await backend.candidates(before, ids, f"{name}, place {place}", group))
        except EngineError as error:
            if not self._skips:
                raise
            return _skipped(pair.index, error), Usage()
        usage = Usage(
            pairs=1,
            tokens_submitted=sum(one.n_submitted for one in asked),
            tokens_reused=sum(one.n_reused for one in asked),
            pairs_rescored=int(asked[0].rescored),
        )
        return self._result(pair, *asked), usage

    def _result(self, pair: EncodedPair, scored: Scored, *candidates: Scored) -> CompletionLogprobs:
        more: dict[str, object] = {}
        if candidates:
            more["candidate_logprobs"] = tuple(one.token_logprobs for one in candidates)
        if self._request.tokens:
            found = token_texts(self._backend.tokenizer, pair.prompt, pair.completion)
            more |= {
                "token_ids": pair.completion,
                "token_texts": tuple(found),
                "token_logprobs": scored.token_logprobs,
                "token_is_greedy": scored.is_greedy,
            }
        return CompletionLogprobs.of(
            pair.index,
            self._version,
            len(pair.prompt),
            scored.token_logprobs,
            scored.is_greedy,
            special_as_text=pair.special_as_text,
            **more,
        )

    def _groups(self) -> list[int]:
        """A group for each pair: that before if both share half of the longer prompt."""
        groups: list[int] = []
        before: tuple[int, ...] = ()
        for pair in self._pairs:
            half = (max(len(pair.prompt), len(before)) + 1) // 2
            same = bool(groups) and pair.prompt[:half] == before[:half]
            groups.append(groups[-1] if same else self._backend.new_group())
            before = pair.prompt
        return groups


def _skipped(index: int, error: Exception) -> SkippedPair:
    return SkippedPair(index=index, reason=str(error), field=getattr(error, "field", None))
