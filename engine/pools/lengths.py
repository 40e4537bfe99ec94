"""How long texts are, counted without holding them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import accumulate

from engine.tasks import Record

Measure = Callable[[list[str]], list[int]]
"""Lengths of texts."""

_BATCH_TEXTS = 1_000
_BATCH_CHARACTERS = 4 << 20


class Lengths(Record):
    """Lengths of texts.

    Attributes:
        count: Texts.
        total: Sum of their lengths.
        mean: Mean length.
        median: The length that half of them do not exceed.
        p95: The length that 95 % of them do not exceed.
        longest: The longest.
    """

    count: int
    total: int
    mean: float
    median: int
    p95: int
    longest: int


class LengthCounter:
    """Measures texts in batches and keeps how often each length occurs."""

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        self._waiting: list[str] = []
        self._characters = 0
        self._counts: Counter[int] = Counter()

    def add(self, text: str) -> None:
        self._waiting.append(text)
        self._characters += len(text)
        if len(self._waiting) >= _BATCH_TEXTS or self._characters >= _BATCH_CHARACTERS:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._counts.update(self._measure(self._waiting))
        self._waiting, self._characters = [], 0

    def lengths(self) -> Lengths:
        """Of all texts so far; zeros if there are none."""
        self._flush()
        ordered = sorted(self._counts.items())
        count = sum(times for _, times in ordered)
        total = sum(length * times for length, times in ordered)
        below = list(accumulate(times for _, times in ordered))

        def quantile(percent: int) -> int:
            return next(
                (
                    length
                    for (length, _), n in zip(ordered, below, strict=True)
                    if 100 * n >= percent * count
                ),
                0,
            )

        return Lengths(
            count=count,
            total=total,
            mean=total / count if count else 0.0,
            median=quantile(50),
            p95=quantile(95),
            longest=ordered[-1][0] if ordered else 0,
        )


def count_words(texts: list[str]) -> list[int]:
    """Words of texts: what white space parts."""
    return [len(text.split()) for text in texts]
