"""What a scoring of files has brought so far: the journal, and how it is read again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from engine.files import LineJournal
from engine.protocol.completions import CompletionLogprobs, SkippedPair
from engine.tasks import Record


class TokenValues(Record):
    """The tokens of one completion, a value for each.

    Attributes:
        token_ids: Their ids.
        token_texts: Their texts.
        token_logprobs: Their log-probabilities.
        token_is_greedy: Whether each is a likeliest one; null where the engine does not tell.
    """

    token_ids: tuple[int, ...]
    token_texts: tuple[str, ...]
    token_logprobs: tuple[float, ...]
    token_is_greedy: tuple[bool, ...] | None


class PairResult(NamedTuple):
    """What a pair brought.

    Attributes:
        logprob: Sum over the completion's tokens.
        n_tokens: Their number.
        n_prompt_tokens: Tokens of the prompt.
        is_greedy: Whether each is a likeliest one; None where the engine does not tell.
        tokens: Values of each token, if they were asked for.
    """

    logprob: float
    n_tokens: int
    n_prompt_tokens: int
    is_greedy: bool | None
    tokens: TokenValues | None


class PairFault(NamedTuple):
    """Why a pair has no result.

    Attributes:
        reason: What was wrong.
        field: The field of the pair at fault, if it is one.
    """

    reason: str
    field: str | None


class ScoredBatch(Record):
    """Pairs that were scored at about the same time: a line of the journal.

    Attributes:
        pairs: Their numbers, counted from 0 through all files.
        results: Of each.
        skipped: Number, reason and field of those that could not be scored.
    """

    pairs: tuple[int, ...]
    results: tuple[PairResult, ...]
    skipped: tuple[tuple[int, str, str | None], ...] = ()

    @classmethod
    def of(cls, arrived: Sequence[tuple[int, CompletionLogprobs | SkippedPair]]) -> ScoredBatch:
        """The batch of what came from a client, each with the number of its pair."""
        pairs, results, skipped = [], [], []
        for number, each in arrived:
            if isinstance(each, SkippedPair):
                skipped.append((number, each.reason, each.field))
                continue
            tokens = None
            if each.token_ids is not None:
                tokens = TokenValues.model_validate(
                    {name: getattr(each, name) for name in TokenValues.model_fields}
                )
            pairs.append(number)
            results.append(
                PairResult(
                    each.logprob, each.n_tokens, each.n_prompt_tokens, each.is_greedy, tokens
                )
            )
        return cls(pairs=tuple(pairs), results=tuple(results), skipped=tuple(skipped))

    def numbers(self) -> Iterator[int]:
        """Of all pairs, the skipped ones too."""
        yield from self.pairs
        yield from (number for number, _, _ in self.skipped)


class PairSet:
    """A set of pair numbers, a bit each.

    Args:
        size: All are below it.
    """

    def __init__(self, size: int) -> None:
        self._bits = bytearray(-(-size // 8))
        self._count = 0

    def __contains__(self, number: int) -> bool:
        return bool(self._bits[number >> 3] >> (number & 7) & 1)

    def __len__(self) -> int:
        return self._count

    def add(self, number: int) -> None:
        """Put a number in."""
        self._count += number not in self
        self._bits[number >> 3] |= 1 << (number & 7)


class PairJournal(LineJournal[ScoredBatch]):
    """Scored pairs, synced as they come."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, ScoredBatch)

    def done(self, n_pairs: int) -> PairSet:
        """The pairs that need not be asked again.

        Raises:
            InputError: If a line other than the last is broken.
        """
        done = PairSet(n_pairs)
        for batch in self.records():
            for number in batch.numbers():
                done.add(number)
        return done

    def in_order(self) -> Iterator[PairResult | PairFault]:
        """What all pairs brought, pair by pair.

        Pairs were asked in about this order, so only those few wait here that overtook another.

        Raises:
            InputError: If a line other than the last is broken.
        """
        waiting: dict[int, PairResult | PairFault] = {}
        following = 0
        for batch in self.records():
            waiting.update(zip(batch.pairs, batch.results, strict=True))
            for number, reason, field in batch.skipped:
                waiting[number] = PairFault(reason, field)
            while following in waiting:
                yield waiting.pop(following)
                following += 1
        assert not waiting, "the journal lacks a pair"
