"""The ways to have vLLM score a pair: what is asked, and what is read from the answer.

The last output token is not submitted where that can be: it is what the engine predicts next.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from vllm.logprobs import FlatLogprobs
from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams

from engine.server.vllm.output_rows import COUNT_MARK, MARK, OUTPUT_MARK

Tokens = tuple[int, ...]
Marks = dict[str, Any]
Complete = Callable[[SamplingParams], SamplingParams]


def as_it_is(params: SamplingParams) -> SamplingParams:
    """The same: vLLM completes them with each request."""
    return params


@dataclass(frozen=True, slots=True)
class Rows:
    """What the engine says of an output's tokens.

    Attributes:
        logprobs: One per token; None where the engine gave none.
        is_greedy: See `engine.questions.backend.Scored`.
    """

    logprobs: list[float | None]
    is_greedy: tuple[bool, ...] | None


class PairPath(Protocol):
    """One way."""

    def ask(self, prompt: Tokens, output: Tokens, marks: Marks) -> tuple[Tokens, SamplingParams]:
        """What is submitted and how.

        Args:
            marks: What our extensions are to read, beside those of this way.
        """
        ...

    def read(
        self, result: RequestOutput, submitted: Tokens, prompt: Tokens, output: Tokens
    ) -> Rows | None:
        """The output's rows; None if the cache covered some, which are not computed then."""
        ...


class SampledLast:
    """The V1 runner: rows of the prompt, stock or ours, and the last token's with the sampled one.

    Args:
        ours: Whether `engine.server.vllm.output_rows` is installed and may be asked.
        drafts: Whether the engine decodes speculatively: it tells nothing of chosen ids for the
            token that it samples then, so the last one is submitted too.
        block: If given, what is submitted is filled up to blocks of so many tokens, with tokens
            that nothing follows from: the cache knows only full blocks.
        longest: Tokens that can be submitted.
        complete: What vLLM does to the parameters that all pairs have in common.
    """

    def __init__(
        self,
        *,
        ours: bool,
        drafts: bool = False,
        block: int = 0,
        longest: int = 0,
        complete: Complete = as_it_is,
    ) -> None:
        self._ours = ours
        self._drafts = drafts
        self._block = block
        self._longest = longest
        self._params = complete(one_token(flat_logprobs=True))

    def ask(self, prompt: Tokens, output: Tokens, marks: Marks) -> tuple[Tokens, SamplingParams]:
        """See `PairPath`."""
        params = copy.copy(self._params)
        submitted = prompt + output
        if not self._drafts:
            submitted = self._filled(submitted[:-1], output[-1])
        behind = len(submitted) - len(prompt)
        params.prompt_logprobs = 0 if behind else None
        if behind < len(output):
            params.logprob_token_ids = [output[-1]]
        if self._ours:
            marks = {**marks, MARK: len(prompt) - 1}
            if behind > len(output):
                marks[COUNT_MARK] = len(output)
        params.extra_args = marks
        return submitted, params

    def _filled(self, tokens: Tokens, last: int) -> Tokens:
        """The tokens; where they do not end with a block, the last one up to its end."""
        missing = -len(tokens) % self._block if self._block else 0
        return tokens + (last,) * missing if len(tokens) + missing < self._longest else tokens

    def read(
        self, result: RequestOutput, submitted: Tokens, prompt: Tokens, output: Tokens
    ) -> Rows | None:
        """See `PairPath`. A row predicts the token behind it, so one prompt row is needed."""
        behind, last = len(submitted) - len(prompt), output[-1]
        inner = output[:behind]
        logprobs: list[float | None] = []
        is_greedy: list[bool] = []
        if inner:
            if (result.num_cached_tokens or 0) >= len(prompt):
                return None
            rows = result.prompt_logprobs
            assert isinstance(rows, FlatLogprobs)
            # Counted from the end, where both the stock path and ours have the output's rows.
            first = len(rows) - behind
            logprobs = [row_logprob(rows, first + i, token) for i, token in enumerate(inner)]
            is_greedy = [rows.ranks[rows.start_indices[first + i]] == 1 for i in range(len(inner))]
        if behind >= len(output):
            return Rows(logprobs, tuple(is_greedy))
        sampled = result.outputs[0].logprobs
        assert isinstance(sampled, FlatLogprobs)
        value = row_logprob(sampled, 0, last)
        logprobs.append(value)
        # vLLM ranks the token that it sampled alone, which is the likeliest and comes first.
        is_greedy.append(value is not None and value >= sampled.logprobs[0])
        return Rows(logprobs, tuple(is_greedy))


class OurRows:
    """The V2 runner with `engine.server.vllm.output_rows_v2`; see `SampledLast` for `complete`."""

    def __init__(self, complete: Complete = as_it_is) -> None:
        self._params = complete(one_token())

    def ask(self, prompt: Tokens, output: Tokens, marks: Marks) -> tuple[Tokens, SamplingParams]:
        """See `PairPath`."""
        params = copy.copy(self._params)
        params.extra_args = {**marks, MARK: len(prompt) - 1, OUTPUT_MARK: list(output)}
        return prompt + output[:-1], params

    def read(
        self, result: RequestOutput, submitted: Tokens, prompt: Tokens, output: Tokens
    ) -> Rows | None:
        """See `PairPath`."""
        rows = result.prompt_token_id_logprobs
        if rows is None:
            return None
        logprobs, below = rows.T.tolist()
        return Rows(logprobs, tuple(value == 0 for value in below))


class FixedIds:
    """The V2 runner as it is: it scores chosen ids from a chosen row on; `complete` as above."""

    def __init__(self, complete: Complete = as_it_is) -> None:
        self._params = complete(one_token())

    def ask(self, prompt: Tokens, output: Tokens, marks: Marks) -> tuple[Tokens, SamplingParams]:
        """See `PairPath`."""
        params = copy.copy(self._params)
        params.prompt_logprob_token_ids = np.array(output, dtype=np.int32).reshape(-1, 1)
        params.prompt_logprob_start = len(prompt) - 1
        params.extra_args = marks
        return prompt + output, params

    def read(
        self, result: RequestOutput, submitted: Tokens, prompt: Tokens, output: Tokens
    ) -> Rows | None:
        """See `PairPath`. The runner drops the scores of a request whose first row is cached."""
        rows = result.prompt_token_id_logprobs
        return None if rows is None else Rows(rows[:, 0].tolist(), None)


def one_token(*, flat_logprobs: bool = False) -> SamplingParams:
    """What all that has one token predicted has in common.

    Copied for each pair: checking all fields again takes longer.
    """
    params = SamplingParams(
        max_tokens=1,
        temperature=0.0,
        skip_reading_prefix_cache=False,
        detokenize=False,
        flat_logprobs=flat_logprobs,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
    params.skip_clone = True  # nobody else holds the copy
    return params


def row_logprob(rows: FlatLogprobs, position: int, token_id: int) -> float | None:
    """The log-probability of a token at its position, by its id; None if the engine gave none."""
    if position >= len(rows):
        return None
    for entry in range(rows.start_indices[position], rows.end_indices[position]):
        if rows.token_ids[entry] == token_id:
            return rows.logprobs[entry]
    return None
