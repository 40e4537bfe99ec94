"""Held out for evaluation: ciphers, geometry, measurement, logic and the tracing of programs."""

from __future__ import annotations

from random import Random

from engine.pools.bundled.book import Book
from engine.pools.bundled.lexicon import WORDS

CIPHERS = Book("cipher")
GEOMETRY = Book("geometry")
MEASUREMENT = Book("measurement")
LOGIC = Book("logic")
PROGRAM_TRACING = Book("program_tracing")


@CIPHERS.task(
    "Encode the word with a simple secret code: replace each letter by the letter that follows it "
    "in the alphabet, so that a becomes b, b becomes c, and so on. After z begin again with a.",
    good=[
        ("cab", "dbc", "c, a and b become d, b and c."),
        ("zone", "apof", "z is followed by a."),
    ],
    bad=[
        ("bed", "adc", "The letters before were taken; the code is cfe."),
        ("hat", "ibt", "The last letter was not replaced: ibu."),
    ],
)
def _next_letter_code(rng: Random) -> tuple[str, str]:
    word = rng.choice(WORDS)
    return word, "".join(chr((ord(letter) - ord("a") + 1) % 26 + ord("a")) for letter in word)


@CIPHERS.task(
    "Replace every letter of the word by its position in the alphabet: 1 for a, 2 for b, up to 26 "
    "for z. Put one space between two numbers.",
    good=[
        ("bad", "2 1 4", "b is 2, a is 1, d is 4."),
        ("joy", "10 15 25", "j is 10, o is 15, y is 25."),
    ],
    bad=[
        ("ace", "135", "There must be spaces between the numbers: 1 3 5."),
        ("fed", "6 5 5", "d is the fourth letter, so it is 6 5 4."),
    ],
)
def _letter_positions(rng: Random) -> tuple[str, str]:
    word = rng.choice([word for word in WORDS if len(word) <= 6])
    return word, " ".join(str(ord(letter) - ord("a") + 1) for letter in word)


@GEOMETRY.task(
    "How far does somebody walk who goes once around a rectangular field? You get the length and "
    "the width of the field in metres. Give the distance in metres, followed by the unit m.",
    good=[
        ("length 30 m, width 10 m", "80 m", "30 + 10 + 30 + 10 is 80."),
        ("length 9 m, width 9 m", "36 m", "The field is a square: 4 times 9."),
    ],
    bad=[
        ("length 20 m, width 5 m", "100 m", "That is length times width; the way is 50 m."),
        ("length 8 m, width 7 m", "15 m", "Only two of the four sides were added: 30 m."),
    ],
)
def _rectangle_perimeter(rng: Random) -> tuple[str, str]:
    length, width = rng.randint(10, 60), rng.randint(3, 40)
    return f"length {length} m, width {width} m", f"{2 * (length + width)} m"


@GEOMETRY.task(
    "Three numbers give the sides of a triangle. Call it equilateral if all sides are equally "
    "long, isosceles if exactly two of them are, and scalene if all are different.",
    good=[
        ("7, 5, 7", "isosceles", "The first and the third side are equal."),
        ("3, 4, 5", "scalene", "No side is as long as another."),
    ],
    bad=[
        ("6, 6, 6", "isosceles", "All three sides are equal: equilateral."),
        ("9, 9, 4", "scalene", "Two sides are equal: isosceles."),
    ],
    labels=("equilateral", "isosceles", "scalene"),
)
def _triangle_kind(rng: Random) -> tuple[str, str]:
    long = rng.randint(10, 60)
    kind = rng.choice(("equilateral", "isosceles", "scalene"))
    if kind == "equilateral":
        sides = [long, long, long]
    elif kind == "isosceles":
        sides = [long, long, rng.randint(3, long - 1)]
    else:  # a middle side above half of the long one keeps the triangle possible
        middle = rng.randint(long // 2 + 2, long - 1)
        sides = [long, middle, rng.randint(long - middle + 1, middle - 1)]
    rng.shuffle(sides)
    return ", ".join(map(str, sides)), kind


@MEASUREMENT.task(
    "Express the length in centimetres only. One metre has 100 centimetres. Write the number "
    "followed by a space and cm.",
    good=[
        ("2 m 40 cm", "240 cm", "200 and 40 make 240."),
        ("5 m 3 cm", "503 cm", "500 and 3 make 503."),
    ],
    bad=[
        ("1 m 8 cm", "18 cm", "One metre has 100 centimetres, so it is 108 cm."),
        ("4 m 15 cm", "4.15 m", "The length is right, but it must be in centimetres."),
    ],
)
def _length_in_centimetres(rng: Random) -> tuple[str, str]:
    metres, rest = rng.randint(1, 12), rng.choice((rng.randint(2, 9), rng.randint(10, 99)))
    return f"{metres} m {rest} cm", f"{100 * metres + rest} cm"


@MEASUREMENT.task(
    "A film lasts the given number of minutes. State how long that is in full hours and remaining "
    "minutes, in the form: 2 h 15 min. Write 0 min if no minutes remain.",
    good=[
        ("80 minutes", "1 h 20 min", "60 of the 80 minutes make an hour."),
        ("180 minutes", "3 h 0 min", "180 minutes are exactly three hours."),
    ],
    bad=[
        ("150 minutes", "1 h 50 min", "An hour has 60 minutes, not 100: 2 h 30 min."),
        ("95 minutes", "1 h 95 min", "The first hour was not taken off: 1 h 35 min."),
    ],
)
def _minutes_as_hours(rng: Random) -> tuple[str, str]:
    minutes = rng.choice((rng.randint(61, 360), 60 * rng.randint(2, 6)))
    return f"{minutes} minutes", f"{minutes // 60} h {minutes % 60} min"


def _formula(rng: Random, depth: int) -> tuple[str, bool]:
    """A random formula with full brackets, and its value."""
    if depth == 0:
        value = rng.random() < 0.5
        return str(value).lower(), value
    text, value = _formula(rng, depth - 1)
    kind = rng.choice(("not", "and", "or"))
    if kind == "not":
        return f"(not {text})", not value
    other_text, other = _formula(rng, rng.randrange(depth))
    return f"({text} {kind} {other_text})", (value and other) if kind == "and" else (value or other)


@LOGIC.task(
    "Evaluate the logical expression, working from the innermost brackets outwards. A and B is "
    "true if both are true, A or B is true if at least one is true, and not turns a value around. "
    "Answer true or false.",
    good=[
        ("(true and (not false))", "true", "Not false is true, and both sides are true."),
        ("((false or true) and false)", "false", "The right-hand side of and is false."),
    ],
    bad=[
        ("(not (true and false))", "false", "True and false is false; not makes it true."),
        ("(false or (not true))", "true", "Both sides of or are false."),
    ],
    labels=("true", "false"),
)
def _logical_expression(rng: Random) -> tuple[str, str]:
    text, value = _formula(rng, rng.choice((2, 3)))
    return text, str(value).lower()


@PROGRAM_TRACING.task(
    "A line consists of round and square brackets. It is balanced if every opening bracket is "
    "closed by one of the same shape and pairs never cross each other. Answer balanced or broken.",
    good=[
        ("([])()", "balanced", "Each bracket is closed, and inner pairs are closed first."),
        ("([)]", "broken", "The round and the square pair cross each other."),
    ],
    bad=[
        ("(()", "balanced", "One opening bracket is never closed."),
        ("[][]", "broken", "Both pairs are closed in the right way."),
    ],
    labels=("balanced", "broken"),
)
def _bracket_check(rng: Random) -> tuple[str, str]:
    line = ""
    for _ in range(rng.randint(2, 5)):
        spot, pair = rng.randint(0, len(line)), rng.choice(("()", "[]"))
        line = rng.choice((pair[0] + line + pair[1], line[:spot] + pair + line[spot:]))
    if rng.random() < 0.5:
        return line, "balanced"
    spot = rng.randrange(len(line))
    if rng.random() < 0.5:  # the counts of the four brackets no longer agree
        other = rng.choice("()[]".replace(line[spot], ""))
        return line[:spot] + other + line[spot + 1 :], "broken"
    return line[:spot] + rng.choice(("([)]", "[(])")) + line[spot:], "broken"


@PROGRAM_TRACING.task(
    "Plates with numbers are piled up. Put 5 lays plate 5 on top of the pile, and take removes the "
    "plate on top. The pile is empty at first. After all steps, which number is on top?",
    good=[
        ("put 3, put 8, take", "3", "Plate 8 is removed again, so 3 is on top."),
        ("put 1, take, put 6, put 2", "2", "Plate 2 was put on top last."),
    ],
    bad=[
        ("put 4, put 9, put 7, take", "7", "Plate 7 was taken away; 9 is on top."),
        ("put 2, put 5, take, take, put 6", "2", "Plate 2 was removed; only 6 is left."),
    ],
)
def _top_plate(rng: Random) -> tuple[str, str]:
    pile: list[int] = []
    steps: list[str] = []
    wanted = rng.randint(5, 8)
    while len(steps) < wanted or not pile:
        if pile and rng.random() < (0.1 if len(pile) == 1 else 0.45):
            pile.pop()
            steps.append("take")
        else:
            pile.append(rng.choice([plate for plate in range(1, 21) if plate not in pile]))
            steps.append(f"put {pile[-1]}")
    return ", ".join(steps), str(pile[-1])
