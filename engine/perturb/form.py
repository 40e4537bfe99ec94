"""Perturbations of form, which leave the words alone: letter case and formatting.

Language models react to such changes although they mean nothing (Sclar et al., *Quantifying
Language Models' Sensitivity to Spurious Features in Prompt Design*, ICLR 2024).
"""

from __future__ import annotations

import random
import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from engine.perturb.base import Changed, Rate, TextStep
from engine.perturb.boundaries import Span, words

Style = Literal["lower", "upper", "title"]


class LetterCase(TextStep):
    """Writes each word in another letter case with probability `rate`.

    Attributes:
        rate: Probability that a word's case is drawn anew, in [0, 1]. A word that has the drawn
            case already is not counted as changed.
        styles: The cases to draw from.
    """

    name: Literal["letter_case"] = "letter_case"
    rate: Rate = 0.5
    styles: Annotated[tuple[Style, ...], Field(min_length=1)] = ("lower", "upper", "title")

    def change(self, text: str, rng: random.Random, protected: tuple[Span, ...]) -> Changed:
        shown: list[str] = []
        changed = total = 0
        for word in words(text, protected):
            written = word.text
            # Drawn for every word, so that protection leaves the other words' fate.
            drawn, style = rng.random() < self.rate, rng.choice(self.styles)
            if word.free:
                total += 1
                if drawn:
                    written = _in_style(word.text, style)
                    changed += written != word.text
            shown.append(written + word.blanks)
        return Changed("".join(shown), changed, total)


def _in_style(word: str, style: Style) -> str:
    if style == "lower":
        return word.lower()
    return word.upper() if style == "upper" else word[:1].upper() + word[1:].lower()


SURROUNDINGS = (
    ("", ""),
    ('"', '"'),
    ("**", "**"),
    ("[", "]"),
    ("<<", ">>"),
    ("### ", ""),
    ("<<<\n", "\n>>>"),
    ("- ", ""),
)
"""What is put around a text; blanks alone would not outlive a prompt's layout."""

SEPARATORS = (None, "\n", "\n\n", "  ", "\n- ", " | ")
"""What is put between sentences; none leaves the blanks as they are."""

_BETWEEN_SENTENCES = re.compile(r"(?<=[.!?:;])\s+(?=\S)")


class Formatting(TextStep):
    """Puts marks around a text and other separators between its sentences.

    One of `SURROUNDINGS` and one of `SEPARATORS` are drawn for each text, never both of them the
    ones that change nothing.
    """

    unit: ClassVar[str] = "places"

    name: Literal["formatting"] = "formatting"

    def change(self, text: str, rng: random.Random, protected: tuple[Span, ...]) -> Changed:
        """The text in another form; its words and their order stay."""
        stripped = text.strip()
        if not stripped:
            return Changed(text, 0, 0)
        offset = len(text) - len(text.lstrip())
        gaps = [
            gap.span()
            for gap in _BETWEEN_SENTENCES.finditer(stripped)
            if not any(
                gap.start() + offset < span.end and span.start < gap.end() + offset
                for span in protected
            )
        ]
        separators = SEPARATORS if gaps else SEPARATORS[:1]
        forms = [(around, between) for around in SURROUNDINGS for between in separators]
        (before, behind), between = rng.choice(forms[1:])
        if between is not None:
            for start, end in reversed(gaps):
                stripped = stripped[:start] + between + stripped[end:]
        changed = (len(gaps) if between is not None else 0) + bool(before)
        return Changed(f"{before}{stripped}{behind}", changed, len(gaps) + 1)
