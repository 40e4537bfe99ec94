"""How alike texts are: the cosine of their n-grams of characters, weighted by TF-IDF."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_N = 4


class NgramVectors:
    """Texts as sparse vectors of length 1.

    The weight of an n-gram is (1 + ln count) * (1 + ln((1 + T) / (1 + texts that have it))), upper
    case and runs of white space folded. Memory is 12 bytes per distinct n-gram of each text.

    Args:
        texts: The texts, T of them, at least one.
        n: Characters of an n-gram.
    """

    def __init__(self, texts: Sequence[str], n: int = _N) -> None:
        known: dict[str, int] = {}
        indices: list[npt.NDArray[np.int32]] = []
        counts: list[npt.NDArray[np.float64]] = []
        for text in texts:
            folded = f" {' '.join(text.casefold().split())} "
            grams = Counter(folded[at : at + n] for at in range(max(1, len(folded) - n + 1)))
            indices.append(
                np.array([known.setdefault(gram, len(known)) for gram in grams], dtype=np.int32)
            )
            counts.append(np.array(list(grams.values()), dtype=np.float64))
        self._starts = np.cumsum([0, *(len(each) for each in indices)])
        self._indices = np.concatenate(indices)
        in_texts = np.bincount(self._indices, minlength=len(known))
        rarity = 1 + np.log((1 + len(texts)) / (1 + in_texts))
        weights = (1 + np.log(np.concatenate(counts))) * rarity[self._indices]
        length = np.sqrt(np.add.reduceat(weights**2, self._starts[:-1]))
        self._weights = weights / np.repeat(length, np.diff(self._starts))
        self._n_grams = len(known)

    def similarities(self, index: int) -> npt.NDArray[np.float64]:
        """Cosine in [0, 1] of one text with every text, shape (T,)."""
        query = np.zeros(self._n_grams)
        own = slice(self._starts[index], self._starts[index + 1])
        query[self._indices[own]] = self._weights[own]
        products = self._weights * query[self._indices]
        return np.clip(np.add.reduceat(products, self._starts[:-1]), 0.0, 1.0)
