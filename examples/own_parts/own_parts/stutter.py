"""A perturbation: some words are said twice, as in speech that was written down."""

from __future__ import annotations

import random
from typing import ClassVar, Literal

from engine.perturb.base import Changed, Rate, TextStep
from engine.perturb.boundaries import Span, words


class Stutter(TextStep):
    """Says each word twice with probability `rate`.

    Attributes:
        rate: Probability that a word is said twice, in [0, 1].
    """

    lengthens: ClassVar[bool] = True

    name: Literal["stutter"] = "stutter"
    rate: Rate = 0.1

    def change(self, text: str, rng: random.Random, protected: tuple[Span, ...]) -> Changed:
        """The text with some of its words twice."""
        shown, changed, total = [], 0, 0
        for word in words(text, protected):
            twice = word.free and rng.random() < self.rate
            shown.append((word.text + (word.blanks or " ")) * twice + word.text + word.blanks)
            changed, total = changed + twice, total + word.free
        return Changed("".join(shown).strip(), changed, total)
