"""Counting: the answer is how many words, letters or things of a kind the input has."""

from __future__ import annotations

from random import Random

from engine.pools.bundled.book import Book
from engine.pools.bundled.lexicon import GROUPS, SENTENCES, WORDS

COUNTING = Book("counting")


@COUNTING.task(
    "How many words does the sentence have? Every word counts, including short ones such as a and "
    "the, and a word that occurs twice counts twice. Answer with a number in digits.",
    good=[
        ("the cat saw the other cat", "6", "Repeated words are counted each time."),
        ("a plum is sweet", "4", "The word a counts like any other."),
    ],
    bad=[
        ("the sun is up", "3", "There are four words; the article was left out."),
        ("we eat soup", "three", "The number must be written in digits."),
    ],
)
def _count_words(rng: Random) -> tuple[str, str]:
    parts = rng.sample(SENTENCES, rng.choice((1, 2)))
    return " and ".join(parts), str(sum(len(part.split()) for part in parts) + len(parts) - 1)


@COUNTING.task(
    "Count the vowels in the words. The vowels are a, e, i, o and u; y is not one of them. A "
    "vowel that appears more than once is counted each time it appears. Reply with digits only.",
    good=[
        ("banana split", "4", "Three times a and once i."),
        ("dry moon", "2", "The y of dry is no vowel, and o occurs twice."),
    ],
    bad=[
        ("yellow sky", "4", "Both letters y were counted, but only e and o are vowels: 2."),
        ("free tree", "1", "The four letters e each count, so the answer is 4."),
    ],
)
def _count_vowels(rng: Random) -> tuple[str, str]:
    phrase = " ".join(rng.sample(WORDS, rng.randint(1, 4)))
    return phrase, str(sum(phrase.count(vowel) for vowel in "aeiou"))


@COUNTING.task(
    "The input is a list of things. Some of them are animals and some are not. Find out how many "
    "animals are in the list and give that number in digits. The number may be 0.",
    good=[
        ("cow, chair, duck", "2", "A cow and a duck are animals, a chair is not."),
        ("lamp, spoon, brick, jar", "0", "None of these things is an animal."),
    ],
    bad=[
        ("frog, bread, bee, cup", "1", "A bee is an animal too, so there are 2."),
        ("cow, hen, pig", "cow, hen, pig", "The number of animals is asked for, not their names."),
    ],
)
def _count_animals(rng: Random) -> tuple[str, str]:
    others = [thing for kind in ("tool", "garment", "fruit") for thing in GROUPS[kind]]
    length, animals = rng.randint(4, 7), rng.randint(0, 4)
    things = rng.sample(GROUPS["animal"], animals) + rng.sample(others, length - animals)
    rng.shuffle(things)
    return ", ".join(things), str(animals)


@COUNTING.task(
    "A list of colours is given. Some colours may occur several times. Determine how many "
    "different colours the list contains, counting each colour just once.",
    good=[
        ("red, blue, red", "2", "Only red and blue occur."),
        ("pink, pink, pink, pink", "1", "It is the same colour four times."),
    ],
    bad=[
        ("green, white, green, black", "4", "That is the length of the list; 3 colours differ."),
        ("grey, brown, grey, brown", "0", "Repeated colours still count once: 2."),
    ],
)
def _count_different_colours(rng: Random) -> tuple[str, str]:
    palette = ("red", "blue", "green", "white", "black", "brown", "pink", "grey", "purple")
    few = rng.sample(palette, rng.randint(2, 6))
    colours = few + rng.choices(few, k=rng.randint(1, 4))
    rng.shuffle(colours)
    return ", ".join(colours), str(len(few))
