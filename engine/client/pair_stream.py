"""The pairs of one streamed request, and the lines that answer it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from engine.client.line_stream import parsed_line
from engine.client.wire import COMPLETIONS_PATH, UnavailableError, not_understood
from engine.errors import EngineError, InputError
from engine.protocol.api import Usage
from engine.protocol.completions import CompletionLogprobs, Encoding, Pair, PairTotals, SkippedPair

_MOST_BYTES = 8 * 2**20
"""Of one request's pairs, a quarter of what a server takes unless told otherwise."""

PAIR_NAME = re.compile(r"pairs\[(\d+)\]")
"""How messages name a pair of a request."""


class PairBatch:
    """The pairs of one streamed request, and which of their results have arrived.

    Args:
        first: The place of the first pair among all of a call.
        pairs: The pairs as JSON.
        settings: All else of the request, as the inside of a JSON object.

    Attributes:
        path: The route.
        usage: What the last request cost, once it was answered.
    """

    path = COMPLETIONS_PATH

    def __init__(self, first: int, pairs: Sequence[str], settings: str) -> None:
        self._pairs = dict(enumerate(pairs, first))
        self._n_pairs = len(pairs)
        self._settings = settings
        self._asked: list[int] = []
        self._received = 0
        self.usage: Usage | None = None

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


def pair_batches(
    pairs: Iterable[Pair],
    encoding: Encoding,
    *,
    tokens: bool,
    on_fault: Literal["error", "skip"],
    most_pairs: int,
) -> Iterator[PairBatch]:
    """The requests of a call, none larger than a server takes.

    Args:
        most_pairs: Pairs of one request at most; fewer where they are long.
    """
    given = {**encoding.model_dump(), "tokens": tokens, "stream": True, "on_fault": on_fault}
    settings = json.dumps(given)[1:-1]
    some: list[str] = []
    size, first = 0, 0
    for number, pair in enumerate(pairs):
        text = pair.model_dump_json(exclude_none=True)
        if some and (len(some) == most_pairs or size + len(text) > _MOST_BYTES):
            yield PairBatch(first, some, settings)
            some, size, first = [], 0, number
        some.append(text)
        size += len(text)
    if some:
        yield PairBatch(first, some, settings)
