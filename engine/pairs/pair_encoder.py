"""From a pair as people have it to its token ids; see `engine.protocol.completions.Encoding`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil
from typing import Any

from engine.errors import InputError
from engine.prompts.chat_template import ChatTemplate
from engine.prompts.special import CUT
from engine.prompts.text_encoder import TextEncoder
from engine.protocol.completions import ChatPair, Encoding, Pair, TextPair, TokenPair
from engine.unicode_text import NOT_UNICODE, is_unicode

CANDIDATES_AT_ONCE = 128
"""Candidates that an engine tells in one request: `vllm.sampling_params.MAX_LOGPROB_TOKEN_IDS`."""

_SHOWN = 12  # characters on each side of a border


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """A pair as token ids.

    Attributes:
        index: Its place in the request.
        prompt: The prompt, at least one token.
        completion: The completion, at least one token.
        special_as_text: Whether the text of a special token stands in it and does not act as one.
        candidates: For each token of the completion others to score in its place, or one list for
            all of them; none if none are.
    """

    index: int
    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    special_as_text: bool = False
    candidates: tuple[tuple[int, ...], ...] = ()

    @property
    def n_tokens(self) -> int:
        """Tokens of both."""
        return len(self.prompt) + len(self.completion)

    @property
    def n_submitted(self) -> int:
        """Tokens of all that is asked of the engine."""
        return self.n_tokens + sum(
            (len(self.prompt) + place) * ceil(len(ids) / CANDIDATES_AT_ONCE)
            for place, ids in enumerate(self.candidates_of_places)
        )

    @property
    def candidates_of_places(self) -> tuple[tuple[int, ...], ...]:
        """A list for each token of the completion; none if there are no candidates."""
        once = len(self.candidates) == 1
        return self.candidates * (len(self.completion) if once else 1)


@dataclass(frozen=True, slots=True)
class _Laid:
    """A pair as the two texts that are encoded; special tokens that are text are cut in them.

    Attributes:
        prompt: The first; empty: the beginning of sequence alone.
        other: The second: prompt and completion together where they are encoded as one, or the
            completion.
        together: Which of the two it is.
        begin: Whether the prompt begins with what the tokenizer puts before every text.
        end: What is scored behind the completion.
    """

    prompt: str
    other: str
    together: bool
    begin: bool
    end: tuple[int, ...] = ()


class PairEncoder:
    """Encodes pairs of any form; safe for threads.

    Args:
        tokenizer: A transformers tokenizer.
        encoding: How.
    """

    def __init__(self, tokenizer: Any, encoding: Encoding) -> None:
        self._tokenizer = tokenizer
        self._encoding = encoding
        self._joint = encoding.boundary == "joint"

    def encode(self, pairs: Sequence[Pair], first: int = 0) -> list[EncodedPair | InputError]:
        """Each pair's token ids, or what is wrong with it.

        Args:
            pairs: Pairs, neighbours of one request.
            first: The place of the first one in the request.
        """
        laid: list[_Laid | EncodedPair | InputError] = []
        for index, pair in enumerate(pairs, first):
            try:
                laid.append(self._laid(pair, index))
            except InputError as error:
                error = InputError(error.problem, record=_name(index), field=error.field)
                laid.append(error)
        ids = self._all_ids([one for one in laid if isinstance(one, _Laid)])
        encoded = [
            self._cut(one, ids, index) if isinstance(one, _Laid) else one
            for index, one in enumerate(laid, first)
        ]
        return [
            _with_candidates(one, pair.candidate_token_ids)
            if isinstance(one, EncodedPair) and pair.candidate_token_ids
            else one
            for one, pair in zip(encoded, pairs, strict=True)
        ]

    def _laid(self, pair: Pair, index: int) -> _Laid | EncodedPair:
        if isinstance(pair, TokenPair):
            return EncodedPair(index, pair.prompt_token_ids, pair.completion_token_ids)
        for field, text in _texts(pair):
            if not is_unicode(text):
                raise InputError(NOT_UNICODE, field=field)
        return self._text(pair) if isinstance(pair, TextPair) else self._conversation(pair)

    def _text(self, pair: TextPair) -> _Laid:
        _check_completion(pair.completion, "completion")
        prompt, completion = pair.prompt, pair.completion
        if self._joint:
            prompt = prompt.rstrip()
            completion = pair.prompt[len(prompt) :] + completion
        end = self._end() if self._encoding.add_eos_token else ()
        together = self._joint and bool(prompt)
        other = prompt + completion if together else completion
        begin = self._encoding.add_special_tokens
        return _Laid(self._guarded(prompt), self._guarded(other), together, begin, end)

    def _conversation(self, pair: ChatPair) -> _Laid:
        messages, completion, field = pair.messages, pair.completion, "completion"
        answered = messages[-1].role == "assistant"
        if completion is None:
            if not answered:
                problem = "the last message is no assistant turn, and there is no completion"
                raise InputError(problem, field="messages")
            *asked, answer = messages
            completion, field = answer.content, f"messages[{len(asked)}].content"
        else:
            asked = [*messages]
            if answered:
                problem = "the last message is an assistant turn, and there is a completion too"
                raise InputError(problem, field="messages")
        if not asked:
            raise InputError("no message stands before the assistant turn", field="messages")
        _check_completion(completion, field)
        chat = self._chat
        prompt = chat.conversation(
            [{"role": each.role, "content": self._guarded(each.content)} for each in asked]
        )
        end: tuple[int, ...] = ()
        answer_text = chat.joint + self._guarded(completion)
        if self._encoding.add_eos_token:
            if chat.closing:
                answer_text += chat.closing
            else:
                end = self._end()
        other = prompt + answer_text if self._joint else answer_text
        return _Laid(prompt, other, self._joint, begin=False, end=end)

    def _end(self) -> tuple[int, ...]:
        if self._tokenizer.eos_token_id is None:
            problem = "the tokenizer has no end-of-sequence token"
            raise InputError(problem, field="add_eos_token")
        return (self._tokenizer.eos_token_id,)

    def _guarded(self, text: str) -> str:
        return text if self._encoding.parse_special else self._encoder.special.cut(text)

    def _all_ids(self, laid: Sequence[_Laid]) -> dict[tuple[str, bool], tuple[int, ...]]:
        """Token ids by text and whether it begins. Each text is encoded once."""
        wanted: dict[bool, dict[str, None]] = {True: {}, False: {}}
        for one in laid:
            if one.prompt:
                wanted[one.begin][one.prompt] = None
            wanted[one.begin and one.together][one.other] = None
        return {
            (text, begin): ids
            for begin, texts in wanted.items()
            if texts
            for text, ids in zip(texts, self._encoder.encode([*texts], begin=begin), strict=True)
        }

    def _cut(
        self, laid: _Laid, ids: dict[tuple[str, bool], tuple[int, ...]], index: int
    ) -> EncodedPair | InputError:
        """The pair, cut where its completion begins."""
        prompt = ids[laid.prompt, laid.begin] if laid.prompt else self._start
        completion = ids[laid.other, laid.begin and laid.together]
        if not prompt:
            problem = "has no tokens, and the tokenizer has no beginning of sequence"
            return InputError(problem, record=_name(index), field="prompt")
        if laid.together:
            if completion[: len(prompt)] != prompt:
                return _spanned(laid, index)
            completion = completion[len(prompt) :]
        elif not laid.prompt and completion[: len(prompt)] == prompt:
            completion = completion[len(prompt) :]  # it brings the beginning of sequence itself
        if not completion:
            problem = "nothing is left of it in tokenisation"
            return InputError(problem, record=_name(index), field="completion")
        special = CUT in laid.prompt or CUT in laid.other
        return EncodedPair(index, prompt, completion + laid.end, special)

    @cached_property
    def _encoder(self) -> TextEncoder:
        return TextEncoder(self._tokenizer)

    @cached_property
    def _start(self) -> tuple[int, ...]:
        """What an empty prompt is, as in lm-evaluation-harness."""
        ids = (self._tokenizer.bos_token_id, self._tokenizer.eos_token_id)
        return self._encoder.head or tuple(each for each in ids if each is not None)[:1]

    @cached_property
    def _chat(self) -> ChatTemplate:
        if not getattr(self._tokenizer, "chat_template", None):
            raise InputError("the model's tokenizer has no chat template", field="messages")
        try:
            return ChatTemplate(self._tokenizer, self._encoder.special)
        except InputError as error:
            raise InputError(error.problem, field="messages") from error


def _with_candidates(
    pair: EncodedPair, lists: tuple[tuple[int, ...], ...]
) -> EncodedPair | InputError:
    """The pair with its candidates."""
    n_tokens = len(pair.completion)
    if len(lists) not in (1, n_tokens):
        return InputError(
            f"{len(lists)} lists for a completion of {n_tokens} tokens; one each, or one for all",
            record=_name(pair.index),
            field="candidate_token_ids",
        )
    return replace(pair, candidates=lists)


def _texts(pair: TextPair | ChatPair) -> Iterator[tuple[str, str]]:
    """Each text of a pair behind the field it is in."""
    if isinstance(pair, TextPair):
        yield "prompt", pair.prompt
    else:
        for place, message in enumerate(pair.messages):
            yield f"messages[{place}].content", message.content
    yield "completion", pair.completion or ""


def _name(index: int) -> str:
    return f"pairs[{index}]"


def _check_completion(text: str, field: str) -> None:
    if not text:
        raise InputError("is empty", field=field)


def _spanned(laid: _Laid, index: int) -> InputError:
    prompt, whole = laid.prompt.replace(CUT, ""), laid.other.replace(CUT, "")
    completion = whole[len(prompt) :]
    return InputError(
        f"a token spans the border of prompt and completion, {prompt[-_SHOWN:]!r} and "
        f"{completion[:_SHOWN]!r}; the boundary 'separate' encodes them apart",
        record=_name(index),
        field="completion",
    )
