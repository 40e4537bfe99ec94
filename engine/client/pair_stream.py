"""The pairs of one streamed request, and the lines that answer it."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping

from engine.client.line_stream import parsed_line
from engine.client.sendable import as_json
from engine.client.wire import COMPLETIONS_PATH, not_understood
from engine.errors import EngineError, InputError, UnavailableError
from engine.protocol.api import Usage
from engine.protocol.completions import CompletionLogprobs, Encoding, Pair, PairTotals, SkippedPair
from engine.protocol.limits import TooLargeError

_MOST_BYTES = 8 * 2**20
"""Of one request's pairs, a quarter of what a server takes unless told otherwise."""

PAIR_NAME = re.compile(r"pairs\[(\d+)\]")
"""How messages name a pair of a request."""


class PairBatch:
    """The pairs of one streamed request, and which of their results have arrived.

    Args:
        pairs: The pairs as JSON, by their places among all of a call.
        settings: All else of the request, as the inside of a JSON object.

    Attributes:
        path: The route.
        usage: What the last request cost, once it was answered.
    """

    path = COMPLETIONS_PATH

    def __init__(self, pairs: Mapping[int, str], settings: str) -> None:
        self._pairs, self._n_pairs = dict(pairs), len(pairs)
        self._settings = settings
        self._asked: list[int] = []
        self._received = 0
        self.usage: Usage | None = None

    def halves(self) -> list[PairBatch]:
        """What is missing, as two requests; none where one pair is all of it."""
        missing = [*self._pairs.items()]
        middle = len(missing) // 2
        parts = (missing[:middle], missing[middle:]) if middle else ()
        return [PairBatch(dict(part), self._settings) for part in parts]

    def request(self) -> str:
        """The body that asks for what is still missing."""
        self._asked, self._received = [*self._pairs], 0
        return f'{{{self._settings},"pairs":[{",".join(self._pairs.values())}]}}'

    def take(self, line: bytes) -> CompletionLogprobs | SkippedPair | None:
        """The result or the skipped pair a line holds; None for the totals, which must be right.

        Raises:
            EngineError: If the line is not understood, or the server failed at a pair.
            InputError: If the server found fault with a pair.
        """
        record = parsed_line(line, self.path, CompletionLogprobs, SkippedPair, PairTotals)
        if not isinstance(record, PairTotals):
            if not 0 <= record.index < len(self._asked):
                raise not_understood(self.path, f": pair {record.index} was not asked for")
            self._received += 1
            changes: dict[str, object] = {"index": self._asked[record.index]}
            self._pairs.pop(self._asked[record.index], None)
            if isinstance(record, SkippedPair):
                changes["reason"] = self._renumbered(record.reason)
            return record.model_copy(update=changes)
        if not record.pairs + record.skipped == self._received == len(self._asked):
            raise EngineError(
                f"{len(self._asked)} pairs were asked for, the server says it sent {record.pairs} "
                f"results and skipped {record.skipped}, {self._received} arrived"
            )
        self.usage = record.usage
        return None

    def broken_off(self) -> UnavailableError:
        """The error of a stream without totals."""
        arrived = self._n_pairs - len(self._pairs)
        return UnavailableError(f"scoring broke off after {arrived} of {self._n_pairs} pairs")

    @property
    def n_missing(self) -> int:
        """Pairs whose results have not arrived."""
        return len(self._pairs)

    @property
    def complete(self) -> bool:
        """Whether every pair's result has arrived."""
        return not self._pairs

    def renumber(self, error: InputError | EngineError) -> None:
        """Makes an error of the server name the pair by its place in the call."""
        error.args = (self._renumbered(str(error)),)
        if isinstance(error, InputError) and error.record:
            error.record = self._renumbered(error.record)

    def _renumbered(self, text: str) -> str:
        def place(found: re.Match[str]) -> str:
            index = int(found[1])
            return f"pairs[{self._asked[index]}]" if index < len(self._asked) else found[0]

        return PAIR_NAME.sub(place, text)


class PairBatches:
    """The requests of a call, none larger than a server takes; an iterator.

    Args:
        on_skip: Takes the pairs that cannot be sent; without it, such a pair is an error, and the
            server is told the same.
        most_pairs: Pairs of one request at most; fewer where they are long.
    """

    def __init__(
        self,
        pairs: Iterable[Pair],
        encoding: Encoding,
        *,
        tokens: bool,
        on_skip: Callable[[SkippedPair], None] | None,
        most_pairs: int,
    ) -> None:
        on_fault = "skip" if on_skip else "error"
        given = {**encoding.model_dump(), "tokens": tokens, "stream": True, "on_fault": on_fault}
        self._settings = json.dumps(given)[1:-1]
        self._on_skip = on_skip
        self._most_pairs = self._largest = most_pairs
        self._cut: deque[PairBatch] = deque()
        self._whole = self._batches(pairs)

    def __iter__(self) -> Iterator[PairBatch]:
        return self

    def __next__(self) -> PairBatch:
        if self._cut:
            return self._cut.popleft()
        self._most_pairs = min(self._most_pairs + 1 + self._most_pairs // 8, self._largest)
        return next(self._whole)

    def cut(self, batch: PairBatch, error: Exception) -> bool:
        """Whether what a batch lacks comes in smaller ones, as it was too large.

        Those behind them grow again: a few long pairs are no reason to send all others apart.
        """
        if not isinstance(error, TooLargeError) or error.record is not None:
            return False
        self._most_pairs = max(1, batch.n_missing // 2)
        halves = batch.halves()
        self._cut.extendleft(reversed(halves))
        return bool(halves)

    def _batches(self, pairs: Iterable[Pair]) -> Iterator[PairBatch]:
        some: dict[int, str] = {}
        size = 0
        for number, pair in enumerate(pairs):
            try:
                text = as_json(pair, f"pairs[{number}]", exclude_none=True)
            except InputError as error:
                if self._on_skip is None:
                    raise
                self._on_skip(SkippedPair(index=number, reason=str(error), field=error.field))
                continue
            if some and (len(some) >= self._most_pairs or size + len(text) > _MOST_BYTES):
                yield PairBatch(some, self._settings)
                some, size = {}, 0
            some[number] = text
            size += len(text)
        if some:
            yield PairBatch(some, self._settings)
