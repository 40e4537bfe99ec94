"""Extraction: the answer stands in the sentence and has to be found there."""

from __future__ import annotations

from random import Random

from engine.pools.bundled.book import Book
from engine.pools.bundled.lexicon import CITIES, NAMES, WEEKDAYS

EXTRACTION = Book("extraction")


@EXTRACTION.task(
    "Find the amount of money in the sentence and copy it together with its currency. Other "
    "numbers, such as weights, ages and times, are of no interest.",
    good=[
        (
            "Ann, who is 30, paid 14 euros for two tickets.",
            "14 euros",
            "30 is an age; the money is 14 euros.",
        ),
        ("The 5 kg bag costs 9 dollars.", "9 dollars", "5 kg is a weight."),
    ],
    bad=[
        (
            "After 20 minutes he sold the bike for 75 pounds.",
            "20 minutes",
            "This is a time; the answer is 75 pounds.",
        ),
        ("Lee owes me 60 euros since 4 May.", "60", "The currency is missing."),
    ],
)
def _amount_of_money(rng: Random) -> tuple[str, str]:
    amount = f"{rng.randint(3, 95)} {rng.choice(('euros', 'dollars', 'pounds'))}"
    name, other = rng.choice(NAMES), rng.randint(3, 95)
    thing = rng.choice(("lamp", "jacket", "table", "guitar", "radio", "carpet", "mirror"))
    sentence = rng.choice(
        (
            f"{name} waited {other} minutes and then paid {amount} for the {thing}.",
            f"The {thing} weighs {other} kilograms and costs {amount}.",
            f"For {amount} you get a {thing} that is {other} years old.",
            f"{name}, aged {other}, spent {amount} on a {thing}.",
        )
    )
    return sentence, amount


@EXTRACTION.task(
    "Each sentence tells of a journey from one city to another. Name the city where the journey "
    "ends, not the one where it begins.",
    good=[
        ("Kim sailed from Malta to Naples.", "Naples", "Naples is the destination."),
        ("Leaving Boston, Lee drove to Dallas.", "Dallas", "Boston is where Lee set out."),
    ],
    bad=[
        ("Joe went to Cairo from Tunis.", "Tunis", "Tunis is the start; he went to Cairo."),
        ("From Kyoto, Ray took a train to Osaka.", "train", "A city is asked for: Osaka."),
    ],
)
def _destination(rng: Random) -> tuple[str, str]:
    start, goal = rng.sample(CITIES, 2)
    name, day = rng.choice(NAMES), rng.choice(WEEKDAYS)
    sentence = rng.choice(
        (
            f"{name} flew from {start} to {goal} on {day}.",
            f"On {day} {name} took the train to {goal}, leaving {start} at noon.",
            f"Leaving {start} behind, {name} drove to {goal} with two friends.",
            f"The bus to {goal} that {name} boarded in {start} was full.",
            f"From {start}, where {name} lives, it took nine hours to get to {goal}.",
        )
    )
    return sentence, goal


@EXTRACTION.task(
    "Every message contains exactly one order code, made of two capital letters, a hyphen and four "
    "digits. Pick it out and write nothing else.",
    good=[
        ("Please cancel order TX-2040 today.", "TX-2040", "Two capitals, a hyphen, four digits."),
        ("Call 555-1234 about RB-7781.", "RB-7781", "555-1234 has no letters."),
    ],
    bad=[
        ("Room B-12 has parcel GH-5600.", "B-12", "This is a room; the code is GH-5600."),
        ("My code is LM-3318, thanks.", "3318", "The letters and the hyphen belong to the code."),
    ],
)
def _order_code(rng: Random) -> tuple[str, str]:
    letters = "".join(rng.choices("ABCDEFGHJKLMNPRSTUVWXYZ", k=2))
    code = f"{letters}-{rng.randint(1000, 9999)}"
    name, number, room = rng.choice(NAMES), rng.randint(100, 999), f"C-{rng.randint(10, 99)}"
    message = rng.choice(
        (
            f"Dear {name}, your order {code} has left our store in {number} Hill Road.",
            f"Please bring {code} to room {room} before 5 pm.",
            f"{name} from office {room} asks why {code} has not arrived.",
            f"We sent {code} last week and billed {number} euros.",
            f"In case of trouble with {code}, dial {number}-{rng.randint(1000, 9999)}.",
        )
    )
    return message, code


@EXTRACTION.task(
    "Two people are mentioned, and one of them says something to the other. Who is the person that "
    "speaks? Answer with the name alone.",
    good=[
        ("Kim told Lee that dinner was ready.", "Kim", "Kim speaks and Lee listens."),
        ("Joe was told by Ray to hurry up.", "Ray", "It is Ray who tells Joe something."),
    ],
    bad=[
        ("Lee heard from Ann that the lake was frozen.", "Lee", "Lee listens; Ann speaks."),
        ("Ray warned Kim about the ice.", "Ray warned Kim", "Only the name is wanted: Ray."),
    ],
)
def _speaker(rng: Random) -> tuple[str, str]:
    says, hears = rng.sample(NAMES, 2)
    news = rng.choice(("the shop was closed", "the train was late", "the tea was cold"))
    sentence = rng.choice(
        (
            f"{says} told {hears} that {news}.",
            f"{hears} was told by {says} that {news}.",
            f"{hears} heard from {says} that {news}.",
            f"It surprised {hears} when {says} mentioned that {news}.",
            f"That {news} was what {hears} learned from {says}.",
        )
    )
    return sentence, says
