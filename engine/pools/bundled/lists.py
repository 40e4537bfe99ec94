"""List processing: sorting, filtering and comparing short lists."""

from __future__ import annotations

from random import Random

from engine.pools.bundled.book import Book
from engine.pools.bundled.lexicon import GROUPS, WORDS

LIST_PROCESSING = Book("list_processing")


def _joined(items: list[int]) -> str:
    return ", ".join(map(str, items))


@LIST_PROCESSING.task(
    "Sort the numbers from the largest to the smallest. Write them in one line with a comma and a "
    "space between two neighbours, just as in the input.",
    good=[
        ("4, 9, 1", "9, 4, 1", "9 is the largest number and 1 the smallest."),
        ("20, 3, 100", "100, 20, 3", "The order goes by value, not by the first digit."),
    ],
    bad=[
        ("7, 2, 5", "2, 5, 7", "This order goes from smallest to largest."),
        ("15, 8, 30", "30, 15", "The number 8 is missing."),
    ],
)
def _sort_numbers_descending(rng: Random) -> tuple[str, str]:
    numbers = rng.sample(range(1, 200), rng.randint(4, 6))
    return _joined(numbers), _joined(sorted(numbers, reverse=True))


@LIST_PROCESSING.task(
    "Put the words into alphabetical order, as they would stand in a dictionary. If two words "
    "begin with the same letter, compare the letters that follow. Separate the words with commas.",
    good=[
        ("pond, bell, knot", "bell, knot, pond", "b comes before k, and k before p."),
        ("cup, clay, coin", "clay, coin, cup", "All begin with c, so l, o and u decide."),
    ],
    bad=[
        ("nest, desk, hill", "nest, hill, desk", "This is the reverse of the right order."),
        ("bone, bank, bird", "bone, bank, bird", "The list was not sorted at all."),
    ],
)
def _sort_words(rng: Random) -> tuple[str, str]:
    letter = rng.choice("cmpst")  # words with one initial make more than one letter count
    alike = rng.sample([word for word in WORDS if word.startswith(letter)], rng.randint(2, 3))
    others = rng.sample([word for word in WORDS if not word.startswith(letter)], 2)
    words = rng.sample([*alike, *others], len(alike) + 2)
    return ", ".join(words), ", ".join(sorted(words))


@LIST_PROCESSING.task(
    "From the list of numbers keep those that are even and throw away the odd ones. The numbers "
    "that remain stay in their original order and are separated by commas.",
    good=[
        ("3, 8, 5, 2", "8, 2", "3 and 5 are odd; the order of 8 and 2 is kept."),
        ("11, 14, 17", "14", "14 is the only even number."),
    ],
    bad=[
        ("6, 1, 4", "4, 6", "The numbers are right, but their order was changed."),
        ("9, 10, 13", "9, 13", "These are the odd numbers."),
    ],
)
def _keep_even_numbers(rng: Random) -> tuple[str, str]:
    size = rng.randint(5, 7)
    chosen = rng.sample(range(2, 99, 2), rng.randint(1, 4))
    numbers = chosen + rng.sample(range(1, 99, 2), size - len(chosen))
    rng.shuffle(numbers)
    return _joined(numbers), _joined([number for number in numbers if number % 2 == 0])


@LIST_PROCESSING.task(
    "Which number in the list is the second largest? In other words, if the largest one were "
    "removed, which would be the largest of the rest? Give just this number.",
    good=[
        ("5, 12, 9", "9", "12 is the largest number and 9 comes next."),
        ("80, 33, 81, 7", "80", "Only 81 is larger than 80."),
    ],
    bad=[
        ("14, 2, 6", "14", "14 is the largest number, not the second largest."),
        ("3, 10, 8, 1", "10", "The number in second place was taken, but 8 is the answer."),
    ],
)
def _second_largest(rng: Random) -> tuple[str, str]:
    numbers = rng.sample(range(1, 150), rng.randint(4, 6))
    return _joined(numbers), str(sorted(numbers)[-2])


@LIST_PROCESSING.task(
    "Two shopping lists are separated by a vertical bar. Find the things that are on both lists. "
    "Write them with commas between them, in the order in which the first list names them.",
    good=[
        ("rice, tea, salt | salt, milk, rice", "rice, salt", "The first list has rice first."),
        ("soap, eggs | eggs, flour, oil", "eggs", "Only eggs are on both lists."),
    ],
    bad=[
        ("jam, corn | corn, peas", "jam, corn, peas", "This is everything on either list."),
        ("beans, ham, nuts | nuts, beans", "nuts, beans", "The first list has beans first."),
    ],
)
def _shared_items(rng: Random) -> tuple[str, str]:
    goods = rng.sample(GROUPS["fruit"] + GROUPS["garment"] + GROUPS["tool"], 8)
    shared, rest = goods[:2] if rng.random() < 0.6 else goods[:1], goods[2:]
    left, right = shared + rest[:3], shared + rest[3:5]
    rng.shuffle(left)
    rng.shuffle(right)
    both = [item for item in left if item in right]
    return f"{', '.join(left)} | {', '.join(right)}", ", ".join(both)
