"""Small reasoning: two or three steps from what is said to what follows."""

from __future__ import annotations

from itertools import accumulate
from random import Random

from engine.pools.bundled.book import Book
from engine.pools.bundled.lexicon import NAMES

SMALL_REASONING = Book("small_reasoning")

_COMPASS = ("north", "east", "south", "west")
_CUPS = ("red", "blue", "green")


@SMALL_REASONING.task(
    "Three people are compared by height. Use the two statements to find out what the question at "
    "the end asks for, and answer with one name.",
    good=[
        (
            "Kim is taller than Lee. Lee is taller than Ann. Who is the tallest?",
            "Kim",
            "Kim is above Lee, and Lee is above Ann.",
        ),
        (
            "Joe is shorter than Ray. Kim is shorter than Joe. Who is the shortest?",
            "Kim",
            "Kim is below Joe, who is below Ray.",
        ),
    ],
    bad=[
        (
            "Ann is taller than Joe. Ray is taller than Ann. Who is the tallest?",
            "Ann",
            "Ray is taller than Ann.",
        ),
        (
            "Lee is shorter than Kim. Lee is taller than Ray. Who is the shortest?",
            "Lee",
            "Ray is even shorter than Lee.",
        ),
    ],
)
def _compare_heights(rng: Random) -> tuple[str, str]:
    tall, middle, short = rng.sample(NAMES, 3)
    statements = []
    for upper, lower in ((tall, middle), (middle, short)):
        pair = (upper, "taller", lower) if rng.random() < 0.5 else (lower, "shorter", upper)
        statements.append("{} is {} than {}.".format(*pair))
    rng.shuffle(statements)
    wanted, answer = rng.choice((("tallest", tall), ("shortest", short)))
    return f"{' '.join(statements)} Who is the {wanted}?", answer


@SMALL_REASONING.task(
    "The numbers follow a simple pattern: either the same number is added each time, or each "
    "number is multiplied by the same factor, or the steps grow by one. Which number comes next?",
    good=[
        ("2, 5, 8, 11, 14", "17", "3 is added each time."),
        ("1, 2, 4, 7, 11", "16", "The steps are 1, 2, 3, 4, and the next is 5."),
    ],
    bad=[
        ("3, 6, 12, 24, 48", "51", "The numbers double, so 96 comes next."),
        ("10, 20, 30, 40, 50", "10", "The step is 10; the next number is 60."),
    ],
)
def _next_number(rng: Random) -> tuple[str, str]:
    first, kind = rng.randint(1, 30), rng.choice(("add", "add", "multiply", "grow"))
    if kind == "multiply":
        factor, first = rng.choice((2, 3)), rng.randint(1, 9)
        terms = [first * factor**power for power in range(6)]
    else:
        step, growth = rng.randint(1, 12), int(kind == "grow")
        terms = list(accumulate([first, *(step + growth * turn for turn in range(5))]))
    return ", ".join(map(str, terms[:-1])), str(terms[-1])


@SMALL_REASONING.task(
    "Three cups stand upside down on a table, and a coin lies under one of them. When two cups are "
    "swapped, each takes the place of the other but the coin stays where it is, under whichever "
    "cup is now above it. Under which cup is the coin in the end?",
    good=[
        (
            "The coin is under the red cup. Red and blue are swapped.",
            "blue",
            "The blue cup now stands where the red one stood, above the coin.",
        ),
        (
            "The coin is under the blue cup. Red and green are swapped.",
            "blue",
            "The blue cup was not moved.",
        ),
    ],
    bad=[
        (
            "The coin is under the green cup. Green and red are swapped.",
            "green",
            "The green cup was moved away; red is above the coin now.",
        ),
        (
            "The coin is under the red cup. Blue and green are swapped. Blue and red are swapped.",
            "green",
            "Only the second swap matters to the coin; it puts blue above it.",
        ),
    ],
    labels=_CUPS,
)
def _cups_and_coin(rng: Random) -> tuple[str, str]:
    cup = rng.choice(_CUPS)
    text = f"The coin is under the {cup} cup."
    for _ in range(rng.randint(2, 4)):
        one, two = rng.sample(_CUPS, 2)
        cup = {one: two, two: one}.get(cup, cup)
        text += f" {one.capitalize()} and {two} are swapped."
    return text, cup


@SMALL_REASONING.task(
    "A hiker looks in the given direction and then makes a few quarter turns on the spot, each to "
    "the left or to the right. In which direction does the hiker look at last? Answer north, east, "
    "south or west.",
    good=[
        ("north: right", "east", "On a map, east is to the right of north."),
        ("west: left, left", "east", "Two quarter turns reverse the direction."),
    ],
    bad=[
        ("south: right", "east", "Looking south, the right hand points to the west."),
        ("east: left, right", "north", "The turns cancel each other; it is still east."),
    ],
    labels=_COMPASS,
)
def _quarter_turns(rng: Random) -> tuple[str, str]:
    start, turns = rng.randrange(4), rng.choices(("left", "right"), k=rng.randint(2, 5))
    end = start + turns.count("right") - turns.count("left")
    return f"{_COMPASS[start]}: {', '.join(turns)}", _COMPASS[end % 4]


@SMALL_REASONING.task(
    "Take the two statements as true, even though the words are invented. Does the answer to the "
    "question follow from them? Reply yes or no if it does, and unknown if they leave it open.",
    good=[
        ("All bims are daks. Kim is a bim. Is Kim a dak?", "yes", "Every bim is also a dak."),
        (
            "Some tofs are gubs. Lee is a tof. Is Lee a gub?",
            "unknown",
            "Lee may or may not be one.",
        ),
    ],
    bad=[
        ("All hets are pons. Ann is a pon. Is Ann a het?", "yes", "There may be other pons."),
        ("No rims are soks. Joe is a sok. Is Joe a rim?", "unknown", "A rim can't be a sok: no."),
    ],
    labels=("yes", "no", "unknown"),
)
def _what_follows(rng: Random) -> tuple[str, str]:
    one, two = rng.sample(("blick", "wug", "vop", "tove", "fep", "zorp", "mib", "lorn"), 2)
    name = rng.choice(NAMES)
    quantifier, is_first, asks_second, answer = rng.choice(
        (
            ("All", "is a", True, "yes"),
            ("All", "is a", False, "unknown"),
            ("All", "is not a", False, "no"),
            ("All", "is not a", True, "unknown"),
            ("No", "is a", True, "no"),
            ("No", "is a", False, "no"),
            ("Some", "is a", True, "unknown"),
            ("No", "is not a", True, "unknown"),
        )
    )
    # What is said of the person and what is asked are about different words: asking about the
    # second word means that the first one was said.
    said, asked = (one, two) if asks_second else (two, one)
    return (
        f"{quantifier} {one}s are {two}s. {name} {is_first} {said}. Is {name} a {asked}?",
        answer,
    )
