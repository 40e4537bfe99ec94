"""Classification by a rule that the definition states in full."""

from __future__ import annotations

from random import Random

from engine.pools.bundled.book import Book
from engine.pools.bundled.lexicon import NAMES, WORDS

RULE_CLASSIFICATION = Book("rule_classification")


@RULE_CLASSIFICATION.task(
    "A zoo sells four kinds of tickets. Visitors under 6 get in free. From 6 to 17 they need a "
    "child ticket, from 18 to 64 a full ticket, and from 65 on a reduced ticket. Which one does "
    "the visitor need? Answer free, child, full or reduced.",
    good=[
        ("Kim is 17 years old.", "child", "17 is the last year of the child ticket."),
        ("Lee is 65 years old.", "reduced", "The reduced ticket begins at 65."),
    ],
    bad=[
        ("Joe is 6 years old.", "free", "Only visitors under 6 get in free; Joe is a child."),
        ("Ray is 40 years old.", "adult", "There is no adult ticket; the answer is full."),
    ],
    labels=("free", "child", "full", "reduced"),
)
def _zoo_ticket(rng: Random) -> tuple[str, str]:
    age = rng.choice((rng.randint(2, 9), rng.randint(10, 24), rng.randint(25, 90)))
    if age < 6:
        ticket = "free"
    elif age < 18:
        ticket = "child"
    else:
        ticket = "full" if age < 65 else "reduced"
    return f"{rng.choice(NAMES)} is {age} years old.", ticket


@RULE_CLASSIFICATION.task(
    "Check a proposed password. It is accepted if it has at least eight characters, contains at "
    "least one digit and contains at least one capital letter. Otherwise it is rejected. Answer "
    "accept or reject.",
    good=[
        ("Sunny2day", "accept", "Nine characters, the digit 2 and the capital S."),
        ("bluebird7", "reject", "There is no capital letter."),
    ],
    bad=[
        ("Cat99", "accept", "It has five characters only and must be rejected."),
        ("Riverboat", "accept", "There is no digit in it."),
    ],
    labels=("accept", "reject"),
)
def _password_check(rng: Random) -> tuple[str, str]:
    first, second = rng.sample(WORDS, 2)
    word = first[:4] + (second[:4] if rng.random() < 0.75 else "")
    if rng.random() < 0.7:
        spot = rng.randrange(len(word))
        word = word[:spot] + word[spot].upper() + word[spot + 1 :]
    if rng.random() < 0.7:
        word += str(rng.randint(2, 99))
    good = len(word) >= 8 and word.lower() != word and not word.isalpha()
    return word, "accept" if good else "reject"


@RULE_CLASSIFICATION.task(
    "In a game, every word has a colour. Words with an even number of letters are blue and words "
    "with an odd number of letters are red. Tell the colour of the word, whatever it means.",
    good=[
        ("boat", "blue", "Boat has four letters, and four is even."),
        ("grass", "red", "Grass has five letters, and five is odd."),
    ],
    bad=[
        ("tree", "green", "The meaning of the word plays no part; four letters make it blue."),
        ("raven", "blue", "Raven has five letters, so it is red."),
    ],
    labels=("blue", "red"),
)
def _word_colour(rng: Random) -> tuple[str, str]:
    word = rng.choice(WORDS)
    return word, ("blue", "red")[len(word) % 2]


@RULE_CLASSIFICATION.task(
    "A shop delivers in three ways. Everything that goes abroad is sent by air. Within the "
    "country, goods of up to 2 kg go by post and heavier ones by truck. Answer air, post or truck.",
    good=[
        ("a vase of 2 kg, within the country", "post", "2 kg may still go by post."),
        ("a sofa of 40 kg, abroad", "air", "Everything that goes abroad is sent by air."),
    ],
    bad=[
        ("a book of 1 kg, abroad", "post", "It is light, but it goes abroad: air."),
        ("a desk of 25 kg, within the country", "van", "The word for this way is truck."),
    ],
    labels=("air", "post", "truck"),
)
def _delivery_way(rng: Random) -> tuple[str, str]:
    goods = rng.choice(("parcel", "box", "crate", "sack", "suitcase", "barrel"))
    abroad = rng.random() < 0.5
    weight = rng.choice((1, 1.5, 2, 2.5, 3, rng.randint(4, 50)))
    where = "abroad" if abroad else "within the country"
    inland = "post" if weight <= 2 else "truck"
    return f"a {goods} of {weight} kg, {where}", "air" if abroad else inland


@RULE_CLASSIFICATION.task(
    "Say fizz if the number can be divided by 3, buzz if it can be divided by 5, and fizzbuzz if "
    "it can be divided by both 3 and 5. For every other number say none.",
    good=[
        ("30", "fizzbuzz", "30 is 10 times 3 and 6 times 5."),
        ("14", "none", "14 can be divided neither by 3 nor by 5."),
    ],
    bad=[
        ("45", "fizz", "45 can be divided by 5 as well: fizzbuzz."),
        ("25", "none", "25 is 5 times 5, so the answer is buzz."),
    ],
    labels=("fizz", "buzz", "fizzbuzz", "none"),
)
def _fizz_buzz(rng: Random) -> tuple[str, str]:
    number = rng.randint(2, 400)
    said = ("" if number % 3 else "fizz") + ("" if number % 5 else "buzz")
    return str(number), said or "none"
