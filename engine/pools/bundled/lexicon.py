"""The words that the generators draw from.

Each list is free of repeats, and no word stands in two groups, so that "which group" and "which one
does not belong" have one answer.
"""

from __future__ import annotations

from engine.pools.bundled.book import lines

WOMEN = ("Anna", "Maria", "Lena", "Clara", "Julia", "Emma", "Sofia", "Nora", "Ida", "Laura")
MEN = ("Peter", "Paul", "Tom", "Ben", "Jonas", "David", "Oscar", "Hugo", "Felix", "Simon")
NAMES = WOMEN + MEN
SURNAMES = (
    *("Berg", "Clark", "Dahl", "Evans", "Fischer", "Grant", "Hansen", "Ivanov", "Jensen"),
    *("Keller", "Lopez", "Moreau", "Novak", "Ortega", "Parker", "Rossi", "Silva", "Weber"),
)
CITIES = (
    *("Oslo", "Rome", "Paris", "Vienna", "Madrid", "Lisbon", "Dublin", "Athens", "Prague"),
    *("Berlin", "London", "Geneva", "Milan", "Porto", "Krakow", "Zurich", "Lyon", "Seville"),
)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)

GROUPS = {
    "animal": (
        *("dog", "horse", "rabbit", "tiger", "sheep", "eagle", "salmon", "spider"),
        *("donkey", "penguin", "monkey", "goat", "whale", "parrot", "snake", "camel"),
    ),
    "fruit": (
        *("apple", "pear", "plum", "banana", "cherry", "grape", "lemon", "mango"),
        *("melon", "peach", "apricot", "raspberry", "pineapple", "strawberry"),
    ),
    "tool": (
        *("hammer", "saw", "pliers", "screwdriver", "wrench", "shovel", "rake", "axe"),
        *("chisel", "spade", "crowbar", "sickle", "pickaxe", "trowel"),
    ),
    "vehicle": (
        *("car", "bus", "bicycle", "truck", "tractor", "ambulance", "tram", "taxi"),
        *("motorcycle", "van", "scooter", "helicopter", "lorry", "minibus"),
    ),
    "garment": (
        *("shirt", "jacket", "skirt", "scarf", "sock", "glove", "coat", "sweater"),
        *("blouse", "dress", "vest", "jeans", "raincoat", "hat"),
    ),
    "instrument": (
        *("violin", "piano", "guitar", "flute", "drum", "harp", "cello", "clarinet"),
        *("accordion", "banjo", "oboe", "saxophone", "trumpet", "tuba"),
    ),
}

WORDS = (
    *("garden", "window", "bottle", "summer", "planet", "silver", "market", "pencil", "bridge"),
    *("forest", "kitchen", "blanket", "candle", "island", "mirror", "basket", "button", "carpet"),
    *("castle", "cheese", "cloud", "copper", "cotton", "cousin", "dragon", "engine", "farmer"),
    *("feather", "finger", "flower", "friend", "giant", "helmet", "honey", "hunter", "jungle"),
    *("ladder", "letter", "library", "magnet", "meadow", "memory", "morning", "mountain"),
    *("muffin", "needle", "number", "ocean", "paper", "pepper", "picnic", "pillow", "pirate"),
    *("pocket", "potato", "present", "puzzle", "river", "rocket", "saddle", "sailor", "school"),
    *("shadow", "shelter", "shoulder", "singer", "spoon", "stable", "station", "stomach"),
    *("storm", "street", "student", "sugar", "sunset", "table", "teacher", "temple", "thunder"),
    *("ticket", "tomato", "tower", "travel", "tunnel", "turtle", "umbrella", "valley", "village"),
    *("wagon", "walnut", "water", "weather", "whistle", "winter", "wizard", "yellow", "zebra"),
)

SENTENCES = lines("sentences.txt")
