"""The text of each token of a completion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_CONTEXT = 4  # tokens before, so that a tokenizer does not take the first one for a beginning
_HALF = "\ufffd"  # what a decoder writes for bytes that are no whole character


def token_texts(tokenizer: Any, prompt: Sequence[int], completion: Sequence[int]) -> list[str]:
    """Texts that together are the completion as it stands behind its prompt.

    Args:
        tokenizer: A transformers tokenizer.
        prompt: Token ids of the prompt; its last few matter.
        completion: Token ids of the completion.

    Returns:
        A text for each token; empty for one that ends inside a character, which the next one
        has whole.
    """

    def text(ids: Sequence[int]) -> str:
        return str(
            tokenizer.decode(
                list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )

    ids = [*prompt[-_CONTEXT:], *completion]
    shown = len(ids) - len(completion)  # all before it have their text
    first = 0  # decoding begins a text earlier, for what stands between words
    texts = []
    for end in range(shown + 1, len(ids) + 1):
        before, whole = text(ids[first:shown]), text(ids[first:end])
        if whole.endswith(_HALF) and end < len(ids):
            texts.append("")
            continue
        texts.append(whole[len(before) :])
        first, shown = shown, end
    return texts
