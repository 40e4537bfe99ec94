"""Perturbations of words: drop, mask, shuffle, misspell.

A word is what `engine.perturb.boundaries.words` says, with the blanks behind it, if there are any.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from engine.perturb.base import Changed, PartialRate, Rate, TextStep
from engine.perturb.boundaries import Span, Word, words


class DropWords(TextStep):
    """Drops each word with probability `rate` (Kung et al., 2023, section 3.1).

    One word always stays: a prompt without any instruction would measure something else.

    Attributes:
        rate: Probability that a word is dropped, in [0, 1).
    """

    lengthens: ClassVar[bool] = False

    name: Literal["drop_words"] = "drop_words"
    rate: PartialRate = 0.2

    def change(self, text: str, rng: random.Random, protected: tuple[Span, ...]) -> Changed:
        found = list(words(text, protected))
        kept = _stay(found, self.rate, rng)
        left = [word for word, stays in zip(found, kept, strict=True) if stays]
        joined = "".join([text + blanks for text, blanks, _ in left])
        return Changed(joined, len(found) - len(left), _free(found))


class MaskWords(TextStep):
    """Puts a mask in the place of each word with probability `rate`; one word always stays.

    Attributes:
        rate: Probability that a word is masked, in [0, 1).
        mask: What stands in its place.
    """

    name: Literal["mask_words"] = "mask_words"
    rate: PartialRate = 0.2
    mask: Annotated[str, Field(min_length=1, pattern=r"^\S+$")] = "[MASK]"

    def change(self, text: str, rng: random.Random, protected: tuple[Span, ...]) -> Changed:
        found = list(words(text, protected))
        kept = _stay(found, self.rate, rng)
        shown = [
            (word.text if stays else self.mask) + word.blanks
            for word, stays in zip(found, kept, strict=True)
        ]
        return Changed("".join(shown), kept.count(False), _free(found))


class ShuffleWords(TextStep):
    """Exchanges neighbouring words; each pair of neighbours with probability `rate`.

    A word that has been exchanged is not exchanged again, so no word moves further than one place.

    Attributes:
        rate: Probability that two neighbours are exchanged, in [0, 1].
    """

    lengthens: ClassVar[bool] = True  # by a token or so: which blanks precede a word matters
    unit: ClassVar[str] = "pairs of neighbours"

    name: Literal["shuffle_words"] = "shuffle_words"
    rate: Rate = 0.2

    def change(self, text: str, rng: random.Random, protected: tuple[Span, ...]) -> Changed:
        found = list(words(text, protected))
        order = [word.text for word in found]
        changed = total = index = 0
        while index + 1 < len(order):
            if found[index].free and found[index + 1].free:
                total += 1
                if rng.random() < self.rate:
                    order[index], order[index + 1] = order[index + 1], order[index]
                    changed += 1
                    index += 1
            index += 1
        shown = [one + word.blanks for one, word in zip(order, found, strict=True)]
        return Changed("".join(shown), changed, total)


class Typos(TextStep):
    """Mistypes each letter with probability `rate`.

    A mistake is one of: the letter is left out, typed twice, exchanged with the next one, or a
    letter that is its neighbour on a QWERTY keyboard is typed in its place. A word keeps at least
    one letter.

    Attributes:
        rate: Probability that a letter is mistyped, in [0, 1].
    """

    unit: ClassVar[str] = "letters"

    name: Literal["typos"] = "typos"
    rate: Rate = 0.05

    def change(self, text: str, rng: random.Random, protected: tuple[Span, ...]) -> Changed:
        shown: list[str] = []
        changed = total = 0
        for word in _unparted(words(text, protected)):
            typed, mistakes, letters = (
                _mistype(word.text, self.rate, rng) if word.free else (word.text, 0, 0)
            )
            shown.append(typed + word.blanks)
            changed += mistakes
            total += letters
        return Changed("".join(shown), changed, total)


def _unparted(found: Iterable[Word]) -> Iterator[Word]:
    """The words, those joined that no blank parts and of which all or none may be changed."""
    held: Word | None = None
    for word in found:
        if held is not None and not held.blanks and held.free == word.free:
            word = word._replace(text=held.text + word.text)
        elif held is not None:
            yield held
        held = word
    if held is not None:
        yield held


def _stay(found: Sequence[Word], rate: float, rng: random.Random) -> list[bool]:
    """Which words stay: protected ones, those the draw spares, and in any case one."""
    # A draw for every word, protected or not, so that protection leaves the other words' fate.
    stays = [(rng.random() >= rate) or not word.free for word in found]
    if found and not any(stays):
        stays[rng.randrange(len(found))] = True
    return stays


def _free(found: Sequence[Word]) -> int:
    return sum(word.free for word in found)


_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def _keyboard() -> dict[str, str]:
    """The neighbours of each key, in its own row and the rows above and below."""
    near: dict[str, str] = {}
    for row, keys in enumerate(_ROWS):
        for column, key in enumerate(keys):
            around = [(row, column - 1), (row, column + 1)]
            around += [(row - 1, column), (row - 1, column + 1)]
            around += [(row + 1, column - 1), (row + 1, column)]
            near[key] = "".join(
                _ROWS[r][c] for r, c in around if 0 <= r < len(_ROWS) and 0 <= c < len(_ROWS[r])
            )
    return near


_NEAR = _keyboard()


def _mistype(word: str, rate: float, rng: random.Random) -> tuple[str, int, int]:
    """The word as typed, the number of mistakes, and of letters that were drawn for."""
    left = sum(map(str.isalpha, word))  # letters there will be when all mistakes have been made
    typed: list[str] = []
    mistakes = letters = index = 0
    while index < len(word):
        character = word[index]
        letters += character.isalpha()
        if not character.isalpha() or rng.random() >= rate:
            typed.append(character)
            index += 1
            continue
        mistakes += 1
        following = word[index + 1 : index + 2]
        ways = ["twice"]
        if left > 1:
            ways.append("left out")
        if following.isalpha() and following != character:
            ways.append("exchanged")
        if character.lower() in _NEAR:
            ways.append("beside")
        way = rng.choice(ways)
        if way == "twice":
            typed.append(character * 2)
        elif way == "left out":
            left -= 1
        elif way == "exchanged":
            typed.append(following + character)
            index += 1
        else:
            near = rng.choice(_NEAR[character.lower()])
            typed.append(near.upper() if character.isupper() else near)
        index += 1
    return "".join(typed), mistakes, letters
