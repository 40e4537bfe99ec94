"""Common knowledge: tables of plain facts."""

from __future__ import annotations

from engine.pools.bundled.book import Book

COMMON_KNOWLEDGE = Book("common_knowledge")

COMMON_KNOWLEDGE.table_task(
    "capital_city",
    "Which city is the capital of the given country? Use the usual English name of the city and "
    "write nothing but this name.",
    good=[
        ("Iceland", "Reykjavik", "Reykjavik is the capital of Iceland."),
        ("Kenya", "Nairobi", "Nairobi is the capital of Kenya."),
    ],
    bad=[
        ("Australia", "Sydney", "Sydney is the largest city; the capital is Canberra."),
        ("Switzerland", "Zurich", "The seat of the government is Bern."),
    ],
)
COMMON_KNOWLEDGE.table_task(
    "chemical_symbol",
    "Write the symbol of the chemical element, as it stands in the periodic table. A symbol has "
    "one or two letters, and only the first of them is a capital.",
    good=[
        ("boron", "B", "B is the symbol of boron."),
        ("sodium", "Na", "The symbol comes from the Latin word natrium."),
    ],
    bad=[
        ("copper", "Co", "Co is cobalt; copper is Cu."),
        ("chlorine", "CL", "The second letter must be small: Cl."),
    ],
)
COMMON_KNOWLEDGE.table_task(
    "animal_class",
    "To which class does the animal belong? Choose among mammal, bird, fish, reptile and insect. "
    "Think of how it breeds and breathes rather than of where it lives.",
    good=[
        ("bison", "mammal", "Bisons suckle their young."),
        ("kingfisher", "bird", "It has feathers and lays eggs."),
    ],
    bad=[
        ("porpoise", "fish", "It lives in the sea, but it is a mammal."),
        ("gecko", "insect", "A gecko has scales and four legs: it is a reptile."),
    ],
    labels=("mammal", "bird", "fish", "reptile", "insect"),
)
