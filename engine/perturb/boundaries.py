"""Where words begin and end, in scripts with blanks between words and in those without."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import regex  # type: ignore[import-untyped]


class Span(NamedTuple):
    """A range of a text, `text[start:end]`."""

    start: int
    end: int


class Word(NamedTuple):
    """A word with its punctuation, the blanks behind it, and whether it may be changed."""

    text: str
    blanks: str
    free: bool


_CLUSTERS = r"\p{lb=SA}\p{lb=AK}\p{lb=AP}\p{lb=AS}\p{sc=Yiii}\p{sc=Bopo}"
"""Letters of scripts whose words only a dictionary finds: Thai, Lao, Khmer, Burmese, Yi."""

_NO_BLANKS = rf"[{_CLUSTERS}\p{{sc=Han}}\p{{sc=Hira}}\p{{sc=Kana}}\p{{sc=Tibt}}\p{{sc=Ethi}}]"
"""Letters that are written without blanks between words."""

_RUN = re.compile(r"(\S+)(\s*)")
_WITHOUT_BLANKS = regex.compile(_NO_BLANKS)
_PIECE = regex.compile(rf"(?w)(?=[{_CLUSTERS}])\X|(?:(?![{_CLUSTERS}]).)+?(?:\b|(?=[{_CLUSTERS}]))")
_BELONGS_TO_NEXT = regex.compile(r"[^\w]*[\p{Ps}\p{Pi}]")
_IN_WORDS = regex.compile(r"\w")


@lru_cache(maxsize=256)  # every perturbation of a task asks for the same texts
def words(text: str, protected: tuple[Span, ...]) -> tuple[Word, ...]:
    """The words of a text; blanks before the first one are left out.

    A word is a run of non-blank characters. A run with letters of a script that puts no blanks
    between words is parted at the word boundaries of Unicode (UAX 29), punctuation left with the
    word it stands at: Chinese characters and Hiragana are words of their own, a run of Katakana, a
    number or a Latin word is one. Where only a dictionary finds words (Thai, Lao, Khmer, Burmese),
    each grapheme cluster counts as one.
    """
    return tuple(_words(text, protected))


def _words(text: str, protected: tuple[Span, ...]) -> Iterator[Word]:
    for found in _RUN.finditer(text):
        start, end = found.span(1)
        cuts = [*_cuts(found[1]), end - start]
        for first, last in zip([0, *cuts], cuts, strict=False):
            free = not any(start + first < s.end and s.start < start + last for s in protected)
            yield Word(found[1][first:last], found[2] if last == cuts[-1] else "", free)


def _cuts(run: str) -> Iterator[int]:
    """Where the words of a run of non-blank characters begin, the first one left out."""
    if run.isascii() or not _WITHOUT_BLANKS.search(run):
        return
    begun = False  # whether the word so far has a letter or digit
    opened: int | None = None  # where an opening bracket waits for its word
    for piece in _PIECE.finditer(run):
        if _IN_WORDS.search(piece[0]):
            if begun:
                yield piece.start() if opened is None else opened
            begun, opened = True, None
        elif _BELONGS_TO_NEXT.match(piece[0]):
            opened = piece.start() if opened is None else opened
        else:
            opened = None


def find_word(word: str, text: str) -> Iterator[Span]:
    """Where a text has a word that is no part of another one, in whatever case."""
    # A letter of a script without blanks may begin or end a word anywhere.
    pattern = (
        rf"(?:(?<!\w)|(?<={_NO_BLANKS})|(?={_NO_BLANKS}))"
        rf"{re.escape(word)}"
        rf"(?:(?!\w)|(?={_NO_BLANKS})|(?<={_NO_BLANKS}))"
    )
    for found in regex.finditer(pattern, text, regex.IGNORECASE):
        yield Span(*found.span())
