"""The text of each token of a completion."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

_CONTEXT = 4  # tokens before, so that a tokenizer does not take the first one for a beginning
_HALF = "\ufffd"  # what a decoder writes for bytes that are no whole character
# Tokens that are decoded together at most. A character has four bytes; but one token may end it and
# begin the next, and a text may hold U+FFFD itself, which looks like half of one.
_TOGETHER = 32


def token_texts(tokenizer: Any, prompt: Sequence[int], completion: Sequence[int]) -> list[str]:
    """Texts that together are the completion as it stands behind its prompt.

    Args:
        tokenizer: A transformers tokenizer.
        prompt: Token ids of the prompt; its last few matter.
        completion: Token ids of the completion, at least one.

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
    together = text(ids)[len(text(ids[:shown])) :]
    ends = [0]  # where in it the text of each token ends
    grown: list[str] = []  # the text with each token that is not shown yet
    for end in range(shown + 1, len(ids) + 1):
        grown.append(text(ids[first:end]))
        if grown[-1].endswith(_HALF) and end < len(ids) and len(grown) < _TOGETHER:
            continue
        begin = len(text(ids[first:shown]))
        ends += [ends[-1] + each - begin for each in _ends(grown, begin)]
        first, shown, grown = shown, end, []
    ends[-1] = len(together)
    return [together[begin:end] for begin, end in pairwise(ends)]


def _ends(grown: Sequence[str], begin: int) -> list[int]:
    """Where the text of each token ends.

    Args:
        grown: The text with each token. The last is right, the others may end inside a character.
        begin: Where that of the first one begins.
    """
    whole, ends = grown[-1], [begin]
    for one, after in zip(grown, [*grown[1:], None], strict=True):
        # Where the next token changes nothing, both are of the same U+FFFD.
        end = len(one) - (one == after)
        ends.append(max(begin, end) if whole.startswith(one) else ends[-1])
    for place in reversed(range(len(ends) - 1)):
        ends[place] = min(ends[place], ends[place + 1])
    return ends[1:]
