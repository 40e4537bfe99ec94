"""The wire format of `POST /v1/completion_logprobs`.

All log-probabilities are natural logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from engine.protocol.api import CacheSalt, TokenIds, Usage
from engine.tasks import Record, Several


class _Pair(Record):
    """What pairs of every form may hold.

    Attributes:
        candidate_token_ids: Tokens whose log-probabilities are wanted in the place of each token of
            the completion: a list for each, or a single one for all of them.
    """

    candidate_token_ids: Annotated[Several[TokenIds], Field(min_length=1)] | None = None


class TokenPair(_Pair):
    """A prompt and a completion as token ids, both non-empty.

    Attributes:
        prompt_token_ids: The prompt.
        completion_token_ids: The completion. Both together fit the model's context.
    """

    prompt_token_ids: TokenIds
    completion_token_ids: TokenIds


class TextPair(_Pair):
    """A prompt and a completion as texts.

    Attributes:
        prompt: The prompt. An empty one is the tokenizer's beginning of sequence, or its end of
            sequence where it has no beginning.
        completion: The completion; white space counts like any other text.
    """

    prompt: str
    completion: str


class Message(Record):
    """One message of a conversation.

    Attributes:
        role: Whose it is: `user`, `assistant`, `system`, or what else the chat template knows.
        content: Its text.
    """

    role: Annotated[str, Field(min_length=1)]
    content: str


class ChatPair(_Pair):
    """A conversation and the answer to score, laid out by the tokenizer's chat template.

    Attributes:
        messages: The conversation.
        completion: The answer to it. Null: the last message, an assistant's, is the answer.
    """

    messages: Annotated[Several[Message], Field(min_length=1)]
    completion: str | None = None


def _form(pair: Any) -> str | None:
    """Which form of a pair it is, by its fields."""
    names = pair if isinstance(pair, dict) else getattr(type(pair), "model_fields", ())
    if "messages" in names:
        return "chat"
    if "prompt_token_ids" in names or "completion_token_ids" in names:
        return "ids"
    return "text" if "prompt" in names or "completion" in names else None


FORMS = ("ids", "text", "chat")
"""The forms of a pair; pydantic names them in the place of an error."""

Pair = Annotated[
    Annotated[TokenPair, Tag("ids")]
    | Annotated[TextPair, Tag("text")]
    | Annotated[ChatPair, Tag("chat")],
    Discriminator(
        _form,
        custom_error_type="pair",
        custom_error_message="a pair has prompt_token_ids and completion_token_ids, or prompt and "
        "completion, or messages",
    ),
]


class Encoding(Record):
    """How texts become token ids.

    Attributes:
        boundary: Where a completion begins. `joint`: its tokens are those of prompt and completion
            as one text, without those of the prompt alone; white space at the end of a text prompt
            goes to the completion first. Where a token spans the border, that is an error.
            `separate`: both are encoded apart and joined as ids.
        add_special_tokens: Whether a text prompt begins with what the tokenizer puts before every
            text, its beginning of sequence, unless it does so already. A conversation begins as the
            chat template has it.
        parse_special: Whether the text of a special token in a prompt, message or completion acts
            as that token; otherwise it is text like any other.
        add_eos_token: Whether the token that ends an answer is scored behind each completion given
            as text: the one with which the chat template ends a turn, or the end of sequence.
    """

    boundary: Literal["joint", "separate"] = "joint"
    add_special_tokens: bool = True
    parse_special: bool = False
    add_eos_token: bool = False


class CompletionLogprobsRequest(Encoding):
    """Body of `POST /v1/completion_logprobs`: how likely is each completion after its prompt?

    Attributes:
        pairs: The pairs, each as token ids, as texts, or as a conversation. Prefixes that they
            share are computed once.
        tokens: Whether to answer with id, text and log-probability of each token, and whether it
            is the likeliest.
        stream: Whether to answer with one JSON line per finished pair (NDJSON), in any order,
            instead of one body.
        on_fault: What to do about a pair that cannot be scored (an empty completion, one that does
            not fit the context, an answer that is no probability): `error` fails the request,
            `skip` reports the pair and goes on.
        cache_salt: Prefixes are shared only with requests of the same salt, as on vLLM's own
            routes.
    """

    pairs: Annotated[Several[Pair], Field(min_length=1)]
    tokens: bool = False
    stream: bool = False
    on_fault: Literal["error", "skip"] = "error"
    cache_salt: CacheSalt | None = None

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "pairs": [
            {"prompt": "The capital of France is", "completion": " Paris"},
            {"prompt_token_ids": [504, 3575, 282], "completion_token_ids": [260, 905]},
        ]
    }

    @property
    def encoding(self) -> Encoding:
        """How texts become token ids."""
        return Encoding(**{name: getattr(self, name) for name in Encoding.model_fields})


class CompletionLogprobs(Record):
    """Log-probabilities of one completion.

    Attributes:
        index: The pair, counted from 0.
        weights_version: The weights it was scored with.
        logprob: Sum over the completion's tokens, <= 0.
        mean_logprob: Mean over them; minus this is the loss, and exp of that the perplexity.
        n_tokens: Tokens of the completion, at least one.
        n_prompt_tokens: Tokens of the prompt, special ones included.
        is_greedy: Whether each token of it is a likeliest one in its place, so that greedy decoding
            could have written it; null where the engine does not tell.
        special_as_text: Whether the pair holds the text of a special token that did not act as one.
        token_ids: Its tokens.
        token_texts: The text of each; together they are the completion. A token that ends inside a
            character has none, the next one has it.
        token_logprobs: Of each token, <= 0.
        token_is_greedy: Of each token, whether none is likelier; null where that is not told.
        candidate_logprobs: For each token those of the pair's candidates in its place.
    """

    index: int
    weights_version: str
    logprob: float
    mean_logprob: float
    n_tokens: int
    n_prompt_tokens: int
    is_greedy: bool | None = None
    special_as_text: bool = False
    token_ids: TokenIds | None = None
    token_texts: tuple[str, ...] | None = None
    token_logprobs: tuple[float, ...] | None = None
    token_is_greedy: tuple[bool, ...] | None = None
    candidate_logprobs: tuple[tuple[float, ...], ...] | None = None

    @staticmethod
    def of(
        index: int,
        weights_version: str,
        n_prompt_tokens: int,
        logprobs: Sequence[float],
        greedy: Sequence[bool] | None = None,
        /,
        **more: Any,
    ) -> CompletionLogprobs:
        """A result, unchecked.

        Args:
            logprobs: Log-probabilities of the completion's tokens, at least one.
            greedy: Of each, whether none is likelier; None: not known.
            more: Other fields.
        """
        logprob, n_tokens = math.fsum(logprobs), len(logprobs)
        return CompletionLogprobs.model_construct(
            index=index,
            weights_version=weights_version,
            logprob=logprob,
            mean_logprob=logprob / n_tokens,
            n_tokens=n_tokens,
            n_prompt_tokens=n_prompt_tokens,
            is_greedy=None if greedy is None else all(greedy),
            **more,
        )


class SkippedPair(Record):
    """A pair that could not be scored, where the request says to skip such.

    Attributes:
        index: The pair, counted from 0.
        reason: What was wrong.
        field: The field at fault, if it is one.
    """

    index: int
    reason: str
    field: str | None = None


class CompletionLogprobsResponse(Record):
    """Answer of `POST /v1/completion_logprobs` when not streaming.

    Attributes:
        weights_version: The weights all of them were computed with.
        encoding: How texts became token ids.
        results: One per pair that was not skipped, in the order of the request.
        usage: What it cost.
        skipped: The other pairs.
    """

    weights_version: str
    encoding: Encoding = Encoding()
    results: tuple[CompletionLogprobs, ...]
    usage: Usage
    skipped: tuple[SkippedPair, ...] = ()


class PairTotals(Record):
    """Last line of a streamed answer; a stream without it was cut off.

    Attributes:
        done: Always true.
        pairs: How many results came before.
        skipped: How many pairs were skipped.
        weights_version: The version all of them were computed with.
        encoding: How texts became token ids.
        usage: Sum over the pairs.
    """

    done: bool = True
    pairs: int
    skipped: int = 0
    weights_version: str
    encoding: Encoding = Encoding()
    usage: Usage
