"""Independent rules for arithmetic, dates, lists and formats."""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from fractions import Fraction
from itertools import pairwise

DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
UNITS = {
    word: value
    for value, word in enumerate(
        [
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
        ],
        start=1,
    )
}
TENS = {
    word: 10 * value
    for value, word in enumerate(
        ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], start=2
    )
}


def numbers(text: str) -> list[int]:
    return [int(found) for found in re.findall(r"\d+", text)]


def add_and_subtract(text: str, answer: str) -> bool:
    return answer == str(sum(map(int, re.findall(r"[+-]?\d+", text.replace(" ", "")))))


def shopping_total(text: str, answer: str) -> bool:
    many, price, extra = numbers(text)
    return answer == str(sum([price] * many, start=extra))


def percentage_of(text: str, answer: str) -> bool:
    percent, whole = numbers(text)
    return answer == str(Fraction(percent, 100) * whole)


def digit_sum(text: str, answer: str) -> bool:
    rest, total = int(text), 0
    while rest:
        rest, digit = divmod(rest, 10)
        total += digit
    return answer == str(total)


def weekday_after(text: str, answer: str) -> bool:
    found = re.fullmatch(r"Today is (\w+)\. (\d+) days pass\.", text)
    assert found
    today = date(2024, 1, 1) + timedelta(days=DAYS.index(found[1]))  # 1 January 2024: a Monday
    return answer == DAYS[(today + timedelta(days=int(found[2]))).weekday()]


def day_number(text: str) -> int:
    """The Julian day number by the formula of Fliegel and Van Flandern."""
    day_text, month_name, year_text = text.split()
    day, month, year = int(day_text), MONTHS.index(month_name) + 1, int(year_text)
    shift = (14 - month) // 12
    years, months = year + 4800 - shift, month + 12 * shift - 3
    leaps = years // 4 - years // 100 + years // 400
    return day + (153 * months + 2) // 5 + 365 * years + leaps - 32045


def days_between(text: str, answer: str) -> bool:
    start, end = text.split(" to ")
    return answer == str(day_number(end) - day_number(start))


def next_date(text: str, answer: str) -> bool:
    year, month, day = map(int, text.split("-"))
    day += 1
    if day > calendar.monthrange(year, month)[1]:
        day, month = 1, month + 1
    if month > 12:
        month, year = 1, year + 1
    return answer == f"{year:04}-{month:02}-{day:02}"


def leap_year(text: str, answer: str) -> bool:
    last_of_february = date(int(text), 3, 1) - timedelta(days=1)
    return answer == ("yes" if last_of_february.day == 29 else "no")


def end_time(text: str, answer: str) -> bool:
    found = re.fullmatch(r"Starts at (\d\d:\d\d), lasts (\d+) minutes", text)
    assert found
    end = datetime.strptime(found[1], "%H:%M") + timedelta(minutes=int(found[2]))
    return answer == end.strftime("%H:%M")


def sort_numbers_descending(text: str, answer: str) -> bool:
    rest, built = numbers(text), []
    while rest:
        built.append(str(max(rest)))
        rest.remove(max(rest))
    return answer == ", ".join(built)


def sort_words(text: str, answer: str) -> bool:
    given, got = text.split(", "), answer.split(", ")
    in_order = all(one < two for one, two in pairwise(got))
    return in_order and len(got) == len(given) and set(got) == set(given)


def keep_even_numbers(text: str, answer: str) -> bool:
    return answer == ", ".join(re.findall(r"\b\d*[02468]\b", text))


def second_largest(text: str, answer: str) -> bool:
    given = numbers(text)
    return int(answer) in given and sum(number > int(answer) for number in given) == 1


def shared_items(text: str, answer: str) -> bool:
    left, right = (side.split(", ") for side in text.split(" | "))
    for item in set(left) - set(right):
        left.remove(item)
    return answer == ", ".join(left)


def iso_date(text: str, answer: str) -> bool:
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", answer):
        return False
    day = date.fromisoformat(answer)
    month = MONTHS[day.month - 1]
    return text in (f"{day.day} {month} {day.year}", f"{month} {day.day}, {day.year}")


def number_in_words(text: str, answer: str) -> bool:
    shape = r"(?:(\w+) hundred)?(?:^| |$)(?:(\w+ty)(?:-(\w+))?|(\w+))?"
    found = re.fullmatch(shape, answer)
    if not found:
        return False
    hundreds, tens, ones, small = found.groups()
    value = 100 * UNITS[hundreds] if hundreds else 0
    value += (TENS[tens] if tens else 0) + (UNITS[ones] if ones else 0)
    value += UNITS[small] if small else 0
    return text == str(value)


def roman_numeral(text: str, answer: str) -> bool:
    if not re.fullmatch(r"C{0,3}(XC|XL|L?X{0,3})(IX|IV|V?I{0,3})", answer):
        return False
    values = [{"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}[letter] for letter in answer]
    value = sum(
        -one if one < two else one for one, two in zip(values, [*values[1:], 0], strict=True)
    )
    return text == str(value)


def catalogue_name(text: str, answer: str) -> bool:
    *first, surname = re.findall(r"\w+", text)
    shortened = re.sub(r"(\w)\w*", r"\1.", " ".join(first))
    expected: str = surname + ", " + shortened
    return answer == expected


RULES: dict[str, Callable[[str, str], bool]] = {
    rule.__name__: rule
    for rule in (
        *(add_and_subtract, shopping_total, percentage_of, digit_sum),
        *(weekday_after, days_between, next_date, leap_year, end_time),
        *(sort_numbers_descending, sort_words, keep_even_numbers, second_largest, shared_items),
        *(iso_date, number_in_words, roman_numeral, catalogue_name),
    )
}
