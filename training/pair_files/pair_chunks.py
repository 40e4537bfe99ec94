"""Pairs as they are sent: by the window, so that memory stays flat; sorted, so that prefixes are
shared; in chunks, so that several engines and requests can be at it at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import NamedTuple

from training.pair_files.pair_columns import RowPair
from training.pair_files.pair_file import PairRow
from training.pair_files.scored_pairs import PairSet

WINDOW_PAIRS = 16_384
WINDOW_LETTERS = 32 << 20
CHUNK_PAIRS = 256
CHUNK_LETTERS = 1 << 20
AHEAD = 128
"""Chunks that may be begun while an earlier one is unfinished."""


class NumberedPair(NamedTuple):
    """A pair, and which of all pairs it is, counted from 0."""

    number: int
    pair: RowPair


def cut_chunks(rows: Iterator[PairRow], done: PairSet) -> Iterator[list[NumberedPair]]:
    """The pairs that are not done, in chunks.

    Pairs of a window of rows are sorted by their texts, so that neighbours share prefixes.
    """
    window: list[tuple[str, NumberedPair]] = []
    letters = 0
    for row in rows:
        for number, pair in enumerate(row.pairs, start=row.first):
            if number not in done:
                order = pair.order
                letters += len(order)
                window.append((order, NumberedPair(number, pair)))
        if len(window) >= WINDOW_PAIRS or letters >= WINDOW_LETTERS:
            yield from _chunks(window)
            window, letters = [], 0
    yield from _chunks(window)


def _chunks(window: list[tuple[str, NumberedPair]]) -> Iterator[list[NumberedPair]]:
    window.sort()
    chunk: list[NumberedPair] = []
    letters = 0
    for order, pair in window:
        if chunk and (len(chunk) >= CHUNK_PAIRS or letters + len(order) > CHUNK_LETTERS):
            yield chunk
            chunk, letters = [], 0
        chunk.append(pair)
        letters += len(order)
    if chunk:
        yield chunk


class ChunkQueue:
    """Hands chunks out to those who score them, in one event loop.

    A chunk that is given back goes to the next one who asks. No chunk is begun far ahead of one
    that is unfinished, so what has to wait for its turn in the output is bounded.
    """

    def __init__(self, chunks: Iterator[list[NumberedPair]]) -> None:
        self._chunks = enumerate(chunks)
        self._returned: list[tuple[int, list[NumberedPair]]] = []
        self._open: set[int] = set()
        self._last = -1
        self._exhausted = False
        self._changed = asyncio.Condition()

    async def take(self) -> tuple[int, list[NumberedPair]] | None:
        """Number and pairs of the next chunk; None when all are finished."""
        async with self._changed:
            while True:
                if self._returned:
                    return self._returned.pop()
                if not self._exhausted and self._last < min(self._open, default=1 << 62) + AHEAD:
                    following = next(self._chunks, None)
                    if following is not None:
                        self._last = following[0]
                        self._open.add(self._last)
                        return following
                    self._exhausted = True
                if self._exhausted and not self._open:
                    self._changed.notify_all()
                    return None
                await self._changed.wait()

    async def finish(self, number: int) -> None:
        """A chunk is through."""
        async with self._changed:
            self._open.discard(number)
            self._changed.notify_all()

    async def give_back(self, number: int, left: list[NumberedPair]) -> None:
        """Somebody else is to do the pairs of a chunk that are left."""
        async with self._changed:
            self._returned.append((number, left))
            self._changed.notify_all()
