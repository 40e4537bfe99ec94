"""Sampling by vLLM's own routes: requests and answers, without the connection."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from engine.client.wire import not_understood
from engine.errors import InputError
from engine.protocol.completions import Message
from engine.protocol.samples import Sample
from engine.unicode_text import NOT_UNICODE, is_unicode

TOKENIZE_PATH = "/tokenize"
SAMPLE_PATH = "/v1/completions"

Prompt = str | Sequence[Message]
"""A text, or a conversation that the chat template lays out."""


def tokenize_body(model: str, prompt: Prompt) -> str:
    """A request for the token ids of a prompt; `InputError` if it is not Unicode."""
    texts = [prompt] if isinstance(prompt, str) else [message.content for message in prompt]
    if not all(map(is_unicode, texts)):
        raise InputError(f"{NOT_UNICODE}: {prompt!a:.80}", field="prompt")
    if isinstance(prompt, str):
        return json.dumps({"model": model, "prompt": prompt})
    messages = [message.model_dump() for message in prompt]
    return json.dumps({"model": model, "messages": messages, "add_generation_prompt": True})


def tokens_of(answer: Any) -> list[int]:
    """The ids of an answer to it."""
    try:
        return [int(token) for token in answer["tokens"]]
    except (LookupError, TypeError, ValueError) as error:
        raise not_understood(TOKENIZE_PATH) from error


def samples_of(answer: Any, prompts: Sequence[Sequence[int]], n: int, first: int) -> list[Sample]:
    """The outputs of a completion that was asked for token ids, in order.

    Args:
        first: The place of the first prompt among all of a call.
    """
    try:
        choices = {int(choice["index"]): choice for choice in answer["choices"]}
        return [
            Sample(
                index=first + place // n,
                number=place % n,
                text=choices[place]["text"],
                finish_reason=choices[place]["finish_reason"],
                prompt_token_ids=tuple(prompts[place // n]),
                token_ids=tuple(choices[place]["token_ids"]),
            )
            for place in range(len(prompts) * n)
        ]
    except (LookupError, TypeError, ValueError) as error:
        raise not_understood(SAMPLE_PATH) from error
