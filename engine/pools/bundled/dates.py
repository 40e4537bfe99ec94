"""Dates and times of day in the Gregorian calendar."""

from __future__ import annotations

from datetime import date, timedelta
from random import Random

from engine.pools.bundled.book import Book
from engine.pools.bundled.lexicon import MONTHS, WEEKDAYS

DATES_AND_TIMES = Book("dates_and_times")


def _random_date(rng: Random) -> date:
    return date(1990, 1, 1) + timedelta(days=rng.randrange(365 * 40))


def _spoken(day: date) -> str:
    return f"{day.day} {MONTHS[day.month - 1]} {day.year}"


@DATES_AND_TIMES.task(
    "You are told which day of the week it is today and how many days will pass. Answer with the "
    "day of the week that it will be then.",
    good=[
        ("Today is Monday. 3 days pass.", "Thursday", "Tuesday, Wednesday, Thursday."),
        ("Today is Friday. 7 days pass.", "Friday", "After a full week it is the same day."),
    ],
    bad=[
        ("Today is Sunday. 2 days pass.", "Monday", "Only one day was counted; it is Tuesday."),
        ("Today is Tuesday. 8 days pass.", "Tuesday", "8 days are a week and a day: Wednesday."),
    ],
    labels=WEEKDAYS,
)
def _weekday_after(rng: Random) -> tuple[str, str]:
    today, days = rng.randrange(7), rng.randint(2, 30)
    return f"Today is {WEEKDAYS[today]}. {days} days pass.", WEEKDAYS[(today + days) % 7]


@DATES_AND_TIMES.task(
    "How many days lie between the two dates? Count from the first date to the second one, leaving "
    "out the first day but including the last. February has 29 days in leap years.",
    good=[
        ("3 March 2021 to 10 March 2021", "7", "10 minus 3 is 7."),
        ("30 April 2019 to 2 May 2019", "2", "1 May and 2 May are counted."),
    ],
    bad=[
        ("1 June 2015 to 5 June 2015", "5", "The first day must not be counted: 4."),
        ("28 February 2020 to 1 March 2020", "1", "2020 is a leap year, so it is 2 days."),
    ],
)
def _days_between(rng: Random) -> tuple[str, str]:
    start, days = _random_date(rng), rng.randint(3, 60)
    return f"{_spoken(start)} to {_spoken(start + timedelta(days=days))}", str(days)


@DATES_AND_TIMES.task(
    "The input is a date, written as year, month and day. Which date comes one day later? Use the "
    "same form for the answer, and mind the ends of months and years.",
    good=[
        ("2011-05-31", "2011-06-01", "May has 31 days, so June begins."),
        ("1999-12-31", "2000-01-01", "A new year begins."),
    ],
    bad=[
        ("2023-02-28", "2023-02-29", "2023 is no leap year; the next day is 2023-03-01."),
        ("2014-09-12", "13 September 2014", "The day is right, but the form was changed."),
    ],
)
def _next_date(rng: Random) -> tuple[str, str]:
    day = _random_date(rng)
    if rng.random() < 0.6:  # the ends of months are where the task is hard
        day = day.replace(day=1) - timedelta(days=rng.choice((1, 1, 2)))
    return day.isoformat(), (day + timedelta(days=1)).isoformat()


@DATES_AND_TIMES.task(
    "Decide whether the year is a leap year. Years divisible by 4 are leap years, except that "
    "those divisible by 100 are leap years only if they are also divisible by 400. Say yes or no.",
    good=[
        ("2024", "yes", "It can be divided by 4 and not by 100."),
        ("1900", "no", "It can be divided by 100 but not by 400."),
    ],
    bad=[
        ("2000", "no", "2000 is divisible by 400, so it is a leap year."),
        ("2018", "yes", "2018 is not divisible by 4."),
    ],
    labels=("yes", "no"),
)
def _leap_year(rng: Random) -> tuple[str, str]:
    year = rng.choice(
        (rng.randint(1601, 2399), 100 * rng.randint(10, 30), 4 * rng.randint(401, 599))
    )
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return str(year), "yes" if leap else "no"


@DATES_AND_TIMES.task(
    "An event begins at the given time and lasts for the given number of minutes. Say when it "
    "ends, on the 24-hour clock with two digits for the hours and two for the minutes.",
    good=[
        ("Starts at 10:15, lasts 30 minutes", "10:45", "15 and 30 minutes make 45."),
        ("Starts at 23:50, lasts 20 minutes", "00:10", "The event ends after midnight."),
    ],
    bad=[
        ("Starts at 08:40, lasts 35 minutes", "08:75", "An hour has 60 minutes: 09:15."),
        ("Starts at 13:00, lasts 90 minutes", "2:30 pm", "The 24-hour clock gives 14:30."),
    ],
)
def _end_time(rng: Random) -> tuple[str, str]:
    start, minutes = rng.randrange(5, 24 * 60, 5), rng.randrange(15, 180, 5)
    hours, rest = divmod((start + minutes) % (24 * 60), 60)
    return (
        f"Starts at {start // 60:02}:{start % 60:02}, lasts {minutes} minutes",
        f"{hours:02}:{rest:02}",
    )
