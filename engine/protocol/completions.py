"""The wire format of `POST /v1/completion_logprobs`.

All log-probabilities are natural logarithms.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from engine.protocol.api import TokenIds, Usage
from engine.tasks import Record


class TokenPair(Record):
    """A prompt and a completion as token ids, both non-empty.

    Attributes:
        prompt_token_ids: The prompt.
        completion_token_ids: The completion. Both together fit the model's context.
    """

    prompt_token_ids: TokenIds
    completion_token_ids: TokenIds


class CompletionLogprobsRequest(Record):
    """Body of `POST /v1/completion_logprobs`: how likely is each completion after its prompt?

    Attributes:
        pairs: The pairs; neighbours that share a prefix are scored fastest.
    """

    pairs: Annotated[tuple[TokenPair, ...], Field(min_length=1)]

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "pairs": [{"prompt_token_ids": [504, 3575, 282], "completion_token_ids": [260, 905]}]
    }


class CompletionLogprobs(Record):
    """Log-probabilities of one completion.

    Attributes:
        token_logprobs: One per token, in order, each <= 0.
        logprob: Their sum.
    """

    token_logprobs: tuple[float, ...]
    logprob: float


class CompletionLogprobsResponse(Record):
    """Answer of `POST /v1/completion_logprobs`.

    Attributes:
        weights_version: The weights all of them were computed with.
        results: One per pair, in the order of the request.
        usage: What it cost.
    """

    weights_version: str
    results: tuple[CompletionLogprobs, ...]
    usage: Usage
