"""Texts as token ids, with what a tokenizer puts before every text said by the caller."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from engine.prompts.piecewise import piecewise
from engine.prompts.special import CUT, SpecialTexts

_BORDER = "\n"  # no vocabulary joins it with what stands behind it


class TextEncoder:
    """Encodes texts that may be cut by `engine.prompts.special.CUT`.

    Args:
        tokenizer: A transformers tokenizer.

    Attributes:
        special: Its special tokens.
        head: What it puts before every text: its beginning of sequence, or nothing.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._piecewise = piecewise(tokenizer)
        self.special = SpecialTexts(tokenizer)
        plain, whole = self.ids("a"), list(tokenizer("a")["input_ids"])
        places = range(len(whole) - len(plain) + 1)
        found = [at for at in places if whole[at : at + len(plain)] == plain]
        self.head: tuple[int, ...] = tuple(whole[: found[0]]) if found else ()

    def encode(self, texts: Sequence[str], *, begin: bool) -> list[tuple[int, ...]]:
        """Token ids of texts, never with an end of sequence that the texts do not hold.

        Args:
            texts: The texts, not none.
            begin: Whether each begins with `head`, unless it does so by itself.
        """
        parts = [text.split(CUT) for text in texts]
        rows = []
        firsts = self._whole([first for first, *_ in parts])
        for ids, (_, *others) in zip(firsts, parts, strict=True):
            begun = not begin or ids[: len(self.head)] == self.head
            before = () if begun else self.head
            rows.append((*before, *ids, *self.inner(others)) if before or others else ids)
        return rows

    def _whole(self, texts: list[str]) -> list[tuple[int, ...]]:
        """Token ids of texts that nothing cuts."""
        if self._piecewise is not None:
            return self._piecewise.encode(texts)
        return list(map(tuple, self._tokenizer(texts, add_special_tokens=False)["input_ids"]))

    def inner(self, parts: Iterable[str]) -> list[int]:
        """Token ids of the parts of a text behind its first one."""
        return [token for part in parts for token in self.behind(_BORDER, part)]

    def behind(self, before: str, text: str) -> list[int]:
        """Token ids of a text as it has them behind another one."""
        front, ids = self.ids(before), self.ids(f"{before}{text}")
        if ids[: len(front)] != front:  # a token spans both
            return self.ids(text)
        return ids[len(front) :]

    def ids(self, text: str) -> list[int]:
        """Token ids of a text alone."""
        return list(self._whole([text])[0])
