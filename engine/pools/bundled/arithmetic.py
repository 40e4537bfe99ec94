"""Arithmetic with whole numbers, bare or inside a small story."""

from __future__ import annotations

from random import Random

from engine.pools.bundled.book import Book
from engine.pools.bundled.lexicon import NAMES

ARITHMETIC = Book("arithmetic")


@ARITHMETIC.task(
    "Work out the value of the expression, going from left to right. It contains only additions "
    "and subtractions of whole numbers. Give the result in digits.",
    good=[
        ("12 + 5 - 3", "14", "12 + 5 is 17, and 17 - 3 is 14."),
        ("40 - 15 + 8", "33", "40 - 15 is 25, and 25 + 8 is 33."),
    ],
    bad=[
        ("20 - 6 + 4", "10", "6 and 4 were added first; from left to right it is 18."),
        ("9 + 9 - 5", "23", "The 5 was added instead of subtracted; the result is 13."),
    ],
)
def _add_and_subtract(rng: Random) -> tuple[str, str]:
    first, second, third = rng.randint(30, 99), rng.randint(5, 60), rng.randint(5, 30)
    if rng.random() < 0.5:
        return f"{first} + {second} - {third}", str(first + second - third)
    second = rng.randint(5, first - 10)
    return f"{first} - {second} + {third}", str(first - second + third)


@ARITHMETIC.task(
    "Read what somebody buys and compute how much the whole purchase costs. Prices are in euros. "
    "Answer with the total as a number, without the name of the currency.",
    good=[
        (
            "Kim buys 2 cups at 3 euros each and a bowl for 7 euros.",
            "13",
            "2 times 3 is 6, and 6 plus 7 is 13.",
        ),
        (
            "Lee buys 5 stamps at 1 euro each and a card for 4 euros.",
            "9",
            "The stamps cost 5 and the card 4 euros.",
        ),
    ],
    bad=[
        (
            "Ann buys 4 rolls at 2 euros each and a cake for 9 euros.",
            "11",
            "Only one roll was paid for: 4 times 2 plus 9 is 17.",
        ),
        (
            "Joe buys 3 pens at 5 euros each and a ruler for 2 euros.",
            "15",
            "The ruler is missing from the total of 17.",
        ),
    ],
)
def _shopping_total(rng: Random) -> tuple[str, str]:
    item = rng.choice(("pens", "notebooks", "candles", "plates", "towels", "brushes"))
    extra = rng.choice(("lamp", "bag", "clock", "pillow", "mirror", "basket"))
    number, price, more = rng.randint(2, 9), rng.randint(2, 12), rng.randint(3, 30)
    return (
        f"{rng.choice(NAMES)} buys {number} {item} at {price} euros each "
        f"and a {extra} for {more} euros.",
        str(number * price + more),
    )


@ARITHMETIC.task(
    "Calculate the given percentage of the given number. All results are whole numbers. State the "
    "result alone, with neither a percent sign nor any working.",
    good=[
        ("50% of 18", "9", "Half of 18 is 9."),
        ("10% of 70", "7", "A tenth of 70 is 7."),
    ],
    bad=[
        ("25% of 40", "25", "25 is the percentage; a quarter of 40 is 10."),
        ("20% of 60", "12%", "The value 12 is right, but the percent sign must not be there."),
    ],
)
def _percentage_of(rng: Random) -> tuple[str, str]:
    percent, step = rng.choice(((10, 10), (20, 5), (25, 4), (50, 2), (75, 4), (5, 20)))
    whole = step * rng.randint(3, 40)
    return f"{percent}% of {whole}", str(whole // step * (percent * step // 100))


@ARITHMETIC.task(
    "Add up all the digits of the number and write the sum. Do not go on adding the digits of the "
    "sum: the answer may have two digits.",
    good=[
        ("507", "12", "5 + 0 + 7 is 12."),
        ("1111", "4", "Four ones make 4."),
    ],
    bad=[
        ("964", "10", "A digit was forgotten: 9 + 6 + 4 is 19."),
        ("88", "7", "8 + 8 is 16, and the digits of 16 must not be added again."),
    ],
)
def _digit_sum(rng: Random) -> tuple[str, str]:
    digits = [rng.randint(1, 9), *(rng.randint(0, 9) for _ in range(rng.randint(2, 4)))]
    return "".join(map(str, digits)), str(sum(digits))
