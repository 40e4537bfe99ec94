"""Token ids of texts that share most of their words, each piece between two seams encoded once.

The prompts of a task are the same words over and over: the instances of a perturbation share all
that stands before them, and what a perturbation leaves of a definition is words of the original.
Looking a piece up takes a tenth of the time of encoding it.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

from engine.prompts.seams import common_head, has_seams, parts

MOST_TOKENS = 1_000_000
"""Token ids that are kept, about 36 bytes each; then all are forgotten."""

_TRIED = (
    "Definition: say what the thing's color is, e.g. a deep  blue (RGB 10 20 255) or none.\n\n"
    "Input: le ciel était très clair, über alles 天空 is blue.\nOutput: BLUE or light Blue"
)


class PiecewiseEncoder:
    """Encodes texts with a tokenizer that has seams; safe for threads.

    Args:
        tokenizer: A transformers tokenizer, see `engine.prompts.seams.has_seams`.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._backend = tokenizer.backend_tokenizer
        self._forget()

    def encode(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Token ids of texts, not none, without special tokens that they do not hold."""
        # Whoever forgets, in another thread, leaves these to us.
        known = self._known
        head = common_head(texts) if len(texts) > 1 else ""
        tails = [text[len(head) :] for text in texts]
        cut = {text: parts(text) for text in {*tails} if text not in known}
        in_head = parts(head)
        self._learn(known, chain(in_head, *cut.values()))
        for text, pieces in cut.items():
            self._keep(known, text, tuple(_joined(known, pieces)))
        if not head:
            return [known[text] for text in tails]
        # Not kept: no other texts begin so.
        before = tuple(_joined(known, in_head))
        return [before + known[text] for text in tails]

    def _learn(self, known: dict[str, tuple[int, ...]], pieces: Iterable[str]) -> None:
        """Encodes those that are not known."""
        new = [*{piece for piece in pieces if piece not in known}]
        if new:
            encoded = self._backend.encode_batch_fast(new, add_special_tokens=False)
            for piece, one in zip(new, encoded, strict=True):
                self._keep(known, piece, tuple(one.ids))

    def _keep(self, known: dict[str, tuple[int, ...]], text: str, ids: tuple[int, ...]) -> None:
        known[text] = ids
        self._room -= len(ids)
        if self._room < 0:
            self._forget()

    def _forget(self) -> None:
        self._known: dict[str, tuple[int, ...]] = {}
        self._room = MOST_TOKENS


def _joined(known: dict[str, tuple[int, ...]], pieces: Iterable[str]) -> Iterable[int]:
    return chain.from_iterable(map(known.__getitem__, pieces))


_encoders: weakref.WeakKeyDictionary[Any, PiecewiseEncoder | None] = weakref.WeakKeyDictionary()


def piecewise(tokenizer: Any) -> PiecewiseEncoder | None:
    """The encoder of a tokenizer, the same one every time; None where it has no seams."""
    if tokenizer not in _encoders:
        encoder = PiecewiseEncoder(tokenizer) if has_seams(tokenizer) else None
        if encoder is not None:
            whole = tokenizer(_TRIED, add_special_tokens=False)["input_ids"]
            # Whatever a class of its own does to texts before they are encoded.
            encoder = encoder if encoder.encode([_TRIED]) == [tuple(whole)] else None
        _encoders[tokenizer] = encoder
    return _encoders[tokenizer]
