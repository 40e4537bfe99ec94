"""Format conversion: the same content, written another way."""

from __future__ import annotations

from datetime import date, timedelta
from random import Random

from engine.pools.bundled.book import Book
from engine.pools.bundled.lexicon import MEN, MONTHS, SURNAMES, WOMEN

FORMAT_CONVERSION = Book("format_conversion")

_SMALL = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen"),
    *("eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ROMAN = (
    *((100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X")),
    *((9, "IX"), (5, "V"), (4, "IV"), (1, "I")),
)


@FORMAT_CONVERSION.task(
    "Rewrite the date in the form YYYY-MM-DD: four digits for the year, two for the month and two "
    "for the day, joined by hyphens. Fill up with zeros where needed.",
    good=[
        ("7 May 2003", "2003-05-07", "May is month 05, and the day gets a leading zero."),
        ("December 25, 1987", "1987-12-25", "December is month 12."),
    ],
    bad=[
        ("3 April 2016", "2016-4-3", "Month and day need two digits: 2016-04-03."),
        ("November 9, 1995", "09-11-1995", "The year must come first: 1995-11-09."),
    ],
)
def _iso_date(rng: Random) -> tuple[str, str]:
    day = date(1950, 1, 1) + timedelta(days=rng.randrange(365 * 80))
    month = MONTHS[day.month - 1]
    spoken = rng.choice((f"{day.day} {month} {day.year}", f"{month} {day.day}, {day.year}"))
    return spoken, day.isoformat()


@FORMAT_CONVERSION.task(
    "Write the whole number in English words, in lower case. Put a hyphen between tens and ones, "
    "as in forty-two, and do not use the word and.",
    good=[
        ("86", "eighty-six", "Tens and ones are joined by a hyphen."),
        ("305", "three hundred five", "There is no and after hundred."),
    ],
    bad=[
        ("140", "one hundred and forty", "The word and must not be used."),
        ("29", "twenty nine", "The hyphen is missing."),
    ],
)
def _number_in_words(rng: Random) -> tuple[str, str]:
    number = rng.choice((rng.randint(13, 99), rng.randint(100, 999)))
    hundreds, rest = divmod(number, 100)
    parts = [f"{_SMALL[hundreds]} hundred"] if hundreds else []
    if rest >= 20:
        tens, ones = divmod(rest, 10)
        parts.append(_TENS[tens - 2] + (f"-{_SMALL[ones]}" if ones else ""))
    elif rest:
        parts.append(_SMALL[rest])
    return str(number), " ".join(parts)


@FORMAT_CONVERSION.task(
    "Convert the number into Roman numerals, the letters once used by the Romans. Use capital "
    "letters, and write 4 as IV, 9 as IX, 40 as XL and 90 as XC.",
    good=[
        ("12", "XII", "X stands for 10, and II for 2."),
        ("44", "XLIV", "XL is 40 and IV is 4."),
    ],
    bad=[
        ("9", "VIIII", "9 is written IX."),
        ("60", "XL", "XL means 40; 60 is LX."),
    ],
)
def _roman_numeral(rng: Random) -> tuple[str, str]:
    number = rng.randint(3, 199)
    rest, letters = number, ""
    for value, symbol in _ROMAN:
        letters += symbol * (rest // value)
        rest %= value
    return str(number), letters


@FORMAT_CONVERSION.task(
    "Turn the full name into the style of a library catalogue: the surname first, then a comma, "
    "and then the initials of the other names, each of them followed by a full stop.",
    good=[
        ("Karen Blum", "Blum, K.", "The surname is Blum, and K. stands for Karen."),
        ("John Henry Moss", "Moss, J. H.", "Both first names are shortened, with a space between."),
    ],
    bad=[
        ("Rita Stone", "Stone, Rita", "The first name must be shortened to R."),
        ("Lewis Adam Cole", "L. A. Cole", "The surname must come first."),
    ],
)
def _catalogue_name(rng: Random) -> tuple[str, str]:
    first = rng.sample(rng.choice((MEN, WOMEN)), rng.choice((1, 2, 2)))
    surname = rng.choice(SURNAMES)
    initials = " ".join(f"{name[0]}." for name in first)
    return f"{' '.join(first)} {surname}", f"{surname}, {initials}"
