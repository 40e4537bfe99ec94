"""Perplexity of many completions taken together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from training.pair_files.scored_pairs import PairResult


@dataclass
class Corpus:
    """Completions, their tokens and the sum of their log-probabilities."""

    n_pairs: int = 0
    n_tokens: int = 0
    logprob: float = 0.0

    def add(self, result: PairResult) -> None:
        """Take a completion."""
        self.n_pairs += 1
        self.n_tokens += result.n_tokens
        self.logprob += result.logprob

    @property
    def perplexity(self) -> float | None:
        """Exp of minus the mean log-probability of a token, >= 1; None without tokens.

        Infinite where that is beyond a float.
        """
        if not self.n_tokens:
            return None
        loss = -self.logprob / self.n_tokens
        return math.exp(loss) if loss < 700 else math.inf


@dataclass
class Perplexities:
    """Those of all completions, of each file and of each group.

    Attributes:
        group: The column whose values are the groups, if there is one.
    """

    group: str | None = None
    total: Corpus = field(default_factory=Corpus)
    files: dict[str, Corpus] = field(default_factory=dict)
    groups: dict[str, Corpus] = field(default_factory=dict)

    def add(self, file: str, values: dict[str, Any], results: Sequence[PairResult]) -> None:
        """Take the completions of a row."""
        corpora = [self.total, self.files.setdefault(file, Corpus())]
        if self.group is not None:
            name = str(values.get(self.group))
            corpora.append(self.groups.setdefault(name, Corpus()))
        for result in results:
            for corpus in corpora:
                corpus.add(result)

    def rows(self) -> list[tuple[str, str, Corpus]]:
        """What it is (`all`, `file` or the column's name), its name, and the completions."""
        rows = [("all", "", self.total)]
        if len(self.files) > 1:
            rows += [("file", name, corpus) for name, corpus in self.files.items()]
        rows += [(self.group or "", name, corpus) for name, corpus in sorted(self.groups.items())]
        return rows
