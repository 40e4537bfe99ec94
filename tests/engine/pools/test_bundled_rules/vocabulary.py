"""Words by kind, for the rules that have to know what is an animal and what a tool."""

from __future__ import annotations

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
