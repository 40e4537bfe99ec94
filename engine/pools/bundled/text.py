"""String editing: the answer is the input with its words or letters moved, dropped or joined."""

from __future__ import annotations

from random import Random

from engine.pools.bundled.book import Book
from engine.pools.bundled.lexicon import SENTENCES, WORDS

STRING_EDITING = Book("string_editing")


@STRING_EDITING.task(
    "Write the words of the given sentence in reverse order, so that the last word comes first "
    "and the first word comes last. Do not change the spelling of any word.",
    good=[
        ("birds sing at dawn", "dawn at sing birds", "The four words appear from last to first."),
        ("we like tea", "tea like we", "The order of the three words is reversed."),
    ],
    bad=[
        ("the door is open", "nepo si rood eht", "The letters were reversed as well."),
        ("rain fell all day", "day fell all rain", "Only the outer two words were exchanged."),
    ],
)
def _reverse_words(rng: Random) -> tuple[str, str]:
    sentence = rng.choice(SENTENCES)
    return sentence, " ".join(reversed(sentence.split()))


@STRING_EDITING.task(
    "You are given one English word. Spell it backwards: begin with its last letter and end with "
    "its first letter. Answer in lower case with nothing but the reversed word.",
    good=[
        ("lamp", "pmal", "Read from right to left, l-a-m-p becomes p-m-a-l."),
        ("stone", "enots", "All five letters appear in the opposite order."),
    ],
    bad=[
        ("bread", "dearb", "The letters e and a are not in reverse order: it should be daerb."),
        ("green", "neerg is green backwards", "The answer must be the reversed word alone."),
    ],
)
def _spell_backwards(rng: Random) -> tuple[str, str]:
    word = rng.choice(WORDS)
    return word, word[::-1]


@STRING_EDITING.task(
    "Delete every vowel (a, e, i, o and u) from the phrase. The letter y does not count as a vowel "
    "here. Keep the consonants and the spaces between the words exactly as they are.",
    good=[
        ("red apple", "rd ppl", "The vowels e, a and e are gone; the space stays."),
        ("happy days", "hppy dys", "The letter a is deleted, y is kept."),
    ],
    bad=[
        ("lazy cat", "lz ct", "The y of lazy must stay: lzy ct."),
        ("open road", "pnrd", "The space between the two words was lost."),
    ],
)
def _remove_vowels(rng: Random) -> tuple[str, str]:
    phrase = " ".join(rng.sample(WORDS, rng.choice((2, 2, 3))))
    return phrase, "".join(letter for letter in phrase if letter not in "aeiou")


@STRING_EDITING.task(
    "Make an acronym from the phrase: take the first letter of every word, short words included, "
    "and write these letters together in upper case, without dots or spaces.",
    good=[
        ("point of sale", "POS", "P, O and S are the first letters, and of is not left out."),
        ("world health day", "WHD", "One capital letter for each of the three words."),
    ],
    bad=[
        ("ministry of food", "MF", "The word of was skipped; the acronym is MOF."),
        ("light rail transit", "L.R.T.", "There should be no dots between the letters."),
    ],
)
def _make_acronym(rng: Random) -> tuple[str, str]:
    one, two, three = rng.sample(WORDS, 3)
    phrase = rng.choice(
        (
            f"{one} {two} of the {three}",
            f"{one} of {two} and {three}",
            f"{one} {two} {three}",
            f"{one} for {two} {three}",
        )
    )
    return phrase, "".join(word[0].upper() for word in phrase.split())


@STRING_EDITING.task(
    "Somebody reads only every other word of a message, beginning with the very first one. Write "
    "down the words that this person reads, in the same order.",
    good=[
        ("come to my house at nine", "come my at", "Words one, three and five are read."),
        ("lions sleep all day", "lions all", "The first and the third word are read."),
    ],
    bad=[
        ("please bring your book", "bring book", "The reading must begin with the first word."),
        ("she won the big prize", "she the", "The fifth word, prize, is read too."),
    ],
)
def _every_other_word(rng: Random) -> tuple[str, str]:
    sentence = rng.choice(SENTENCES)
    return sentence, " ".join(sentence.split()[::2])
