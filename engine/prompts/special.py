"""Texts that a tokenizer takes for special tokens, and how data is kept from acting as them."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

END_TEXTS = (
    "<|endoftext|>",
    "</s>",
    "<|im_end|>",
    "<|end|>",
    "<|eot_id|>",
    "<|end_of_text|>",
    "<|eos|>",
    "<eos>",
    "<end_of_turn>",
    "<|end_of_turn|>",
    "<|END_OF_TURN_TOKEN|>",
    "<|return|>",
    "<\uff5cend\u2581of\u2581sentence\uff5c>",
)
"""Texts of the end tokens of well-known models, which files for fine-tuning often hold."""

WELL_KNOWN = (
    *END_TEXTS,
    "<s>",
    "<bos>",
    "<unk>",
    "<pad>",
    "<|im_start|>",
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<start_of_turn>",
    "<|user|>",
    "<|assistant|>",
    "<|system|>",
)
"""Texts of special tokens of well-known models."""

CUT = "\ufdd0cut\ufdd1"
"""Marks where a text is cut before it is encoded; no character of it is assigned, ever."""


class SpecialTexts:
    """The special tokens of a tokenizer, as texts.

    Args:
        tokenizer: A transformers tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        added = getattr(tokenizer, "added_tokens_decoder", {}).values()
        special = {token.content for token in added if token.special}
        special.update(getattr(tokenizer, "all_special_tokens", ()))
        self._added = {token.content for token in added if token.content.strip()} | special
        # One of a single character cannot be cut.
        self._special = tuple(sorted(text for text in special if len(text) > 1))
        first = "".join(sorted({text[0] for text in self._special}))
        self._first = re.compile(f"[{re.escape(first)}]") if first else None

    def cut(self, text: str) -> str:
        """The text with `CUT` inside of each special token, so that none is left in any part."""
        if self._first is None:
            return text
        cuts = [
            found.end()
            for found in self._first.finditer(text)
            if text.startswith(self._special, found.start())
        ]
        borders = [0, *cuts, len(text)]
        return CUT.join(text[a:b] for a, b in pairwise(borders))

    def up_to_first(self, text: str) -> str:
        """The text up to and with the first token in it that was added to the vocabulary.

        Empty if there is none. Tokens that are blanks only do not count.
        """
        found = [(text.find(token), -len(token)) for token in self._added if token in text]
        if not found:
            return ""
        start, length = min(found)
        return text[: start - length]


def without_end_texts(text: str) -> str:
    """The text without end tokens, and blanks before them, at its end."""
    while (bare := text.rstrip()).endswith(END_TEXTS):
        longest = max((end for end in END_TEXTS if bare.endswith(end)), key=len)
        text = bare.removesuffix(longest).rstrip()
    return text
