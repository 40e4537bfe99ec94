"""Independent rules for string editing, counting and extraction."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise

from tests.engine.pools.test_bundled_rules.vocabulary import GROUPS

SPEAKERS = re.compile(
    r"^(\w+) (?:told|warned)|(?:told by|heard from|learned from) (\w+)|when (\w+) mentioned"
)


def reverse_words(text: str, answer: str) -> bool:
    remaining, built = text, []
    while remaining:
        remaining, _, last = remaining.rpartition(" ")
        built.append(last)
    return answer == " ".join(built)


def spell_backwards(text: str, answer: str) -> bool:
    return len(answer) == len(text) and all(
        answer[-position] == letter for position, letter in enumerate(text, start=1)
    )


def remove_vowels(text: str, answer: str) -> bool:
    return answer == re.sub(r"[aeiou]", "", text)


def make_acronym(text: str, answer: str) -> bool:
    return answer == "".join(re.findall(r"\b\w", text)).upper()


def every_other_word(text: str, answer: str) -> bool:
    return answer == " ".join(re.findall(r"(\S+)(?:\s+\S+)?", text))


def count_words(text: str, answer: str) -> bool:
    return answer == str(len(re.findall(r"\b[a-z]+\b", text)))


def count_vowels(text: str, answer: str) -> bool:
    return answer == str(len(text) - len(re.sub(r"[aeiou]", "", text)))


def count_animals(text: str, answer: str) -> bool:
    animals = {*GROUPS["animal"], "cow", "duck", "frog", "bee", "hen", "pig"}
    return answer == str(len(animals.intersection(text.split(", "))))


def count_different_colours(text: str, answer: str) -> bool:
    ordered = sorted(text.split(", "))
    changes = sum(one != two for one, two in pairwise(ordered))
    return answer == str(changes + 1)


def amount_of_money(text: str, answer: str) -> bool:
    return re.findall(r"\d+ (?:euros|dollars|pounds)\b", text) == [answer]


def destination(text: str, answer: str) -> bool:
    return re.findall(r"\bto ([A-Z][a-z]+)", text) == [answer]


def order_code(text: str, answer: str) -> bool:
    return re.findall(r"\b[A-Z]{2}-[0-9]{4}\b", text) == [answer]


def speaker(text: str, answer: str) -> bool:
    found = SPEAKERS.search(text)
    return found is not None and answer == next(name for name in found.groups() if name)


RULES: dict[str, Callable[[str, str], bool]] = {
    rule.__name__: rule
    for rule in (
        *(reverse_words, spell_backwards, remove_vowels, make_acronym, every_other_word),
        *(count_words, count_vowels, count_animals, count_different_colours),
        *(amount_of_money, destination, order_code, speaker),
    )
}
