"""Independent rules for word forms, rule classification, reasoning and the periodic table.

Word forms are entered twice: regular ones must follow the spelling rules given here, and all others
must stand in the lists of exceptions given here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise, permutations, product

from tests.engine.pools.test_bundled_rules.vocabulary import GROUPS


def by_two(text: str) -> dict[str, str]:
    words = text.split()
    return dict(zip(words[::2], words[1::2], strict=True))


PLURALS = by_two(
    "child children foot feet tooth teeth mouse mice goose geese man men woman women ox oxen "
    "sheep sheep deer deer knife knives leaf leaves wolf wolves wife wives loaf loaves half halves "
    "thief thieves shelf shelves potato potatoes tomato tomatoes hero heroes echo echoes "
    "crisis crises phenomenon phenomena grandchild grandchildren louse lice elf elves"
)
PASTS = by_two(
    "go went see saw buy bought think thought bring brought catch caught teach taught write wrote "
    "ride rode drive drove swim swam sing sang drink drank run ran come came give gave take took "
    "know knew grow grew fly flew throw threw choose chose freeze froze speak spoke steal stole "
    "sleep slept keep kept feel felt leave left lose lost find found stand stood sell sold "
    "hear heard cut cut hit hit fall fell build built prefer preferred begin began draw drew "
    "eat ate"
)
PERSONS = by_two(
    "type typist study student assist assistant apply applicant lie liar beg beggar "
    "inhabit inhabitant immigrate immigrant preside president invent inventor govern governor "
    "sail sailor survive survivor compete competitor sculpt sculptor"
)
SPELLED_TWO_WAYS = {"travel": {"traveller", "traveler"}, "advise": {"adviser", "advisor"}}
LONG_ADJECTIVE = re.compile(r"(ful|ous|ive|ing|ant|ent|able|cult|ern)$")
SHORT_VOWEL = re.compile(r"^[^aeiou]+[aeiou][bdgmnpt]$")

SYMBOLS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se "
    "Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy "
    "Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U"
)
ELEMENTS = (
    "hydrogen helium lithium beryllium boron carbon nitrogen oxygen fluorine neon sodium magnesium "
    "aluminium silicon phosphorus sulfur chlorine argon potassium calcium scandium titanium "
    "vanadium chromium manganese iron cobalt nickel copper zinc gallium germanium arsenic selenium "
    "bromine krypton rubidium strontium yttrium zirconium niobium molybdenum technetium ruthenium "
    "rhodium palladium silver cadmium indium tin antimony tellurium iodine xenon caesium barium "
    "lanthanum cerium praseodymium neodymium promethium samarium europium gadolinium terbium "
    "dysprosium holmium erbium thulium ytterbium lutetium hafnium tantalum tungsten rhenium osmium "
    "iridium platinum gold mercury thallium lead bismuth polonium astatine radon francium radium "
    "actinium thorium protactinium uranium"
)
PRAISE = (
    "delicious friendly spotless wonderful comfortable excellent lovely fair helpful clean tasty "
    "kind pretty"
)
BLAME = "stale rude dirty noisy terrible broken slow cold defective torn dim filthy bitter"


def plural_of_noun(text: str, answer: str) -> bool:
    if text in PLURALS:
        return answer == PLURALS[text]
    if re.search(r"[^aeiou]y$", text):
        return answer == text[:-1] + "ies"
    return answer == text + ("es" if re.search(r"(s|x|ch|sh)$", text) else "s")


def with_ending(stem: str, ending: str) -> str:
    """Regular spelling before an ending that begins with e."""
    if stem.endswith("e"):
        return stem + ending[1:]
    if re.search(r"[^aeiou]y$", stem):
        return stem[:-1] + "i" + ending
    return stem + (stem[-1] if SHORT_VOWEL.search(stem) else "") + ending


def past_tense(text: str, answer: str) -> bool:
    return answer == PASTS.get(text, with_ending(text, "ed"))


def superlative_of_adjective(text: str, answer: str) -> bool:
    if text in ("good", "bad"):
        return answer == {"good": "best", "bad": "worst"}[text]
    if LONG_ADJECTIVE.search(text):
        return answer == "most " + text
    return answer == with_ending(text, "est")


def person_who(text: str, answer: str) -> bool:
    if text in SPELLED_TWO_WAYS:
        return answer in SPELLED_TWO_WAYS[text]
    if text in PERSONS:
        return answer == PERSONS[text]
    if re.search(r"...ate$|ct$|it$", text):
        return answer == text.removesuffix("e") + "or"
    return answer == with_ending(text, "er")


def odd_word_out(text: str, answer: str) -> bool:
    listed = {word: kind for kind, group in GROUPS.items() for word in group}
    listed |= {"oak": "tree", "elm": "tree", "birch": "tree", "carrot": "vegetable"}
    listed |= {"nose": "face", "ear": "face", "chin": "face", "sofa": "furniture"}
    listed |= {"milk": "drink", "juice": "drink", "water": "drink", "fork": "cutlery"}
    listed |= {"iron": "metal", "gold": "metal", "lead": "metal", "pine": "tree"}
    kinds = [listed[word] for word in text.split(", ")]
    alone = [word for word in text.split(", ") if kinds.count(listed[word]) == 1]
    return len(kinds) == 4 and len(set(kinds)) == 2 and alone == [answer]


def zoo_ticket(text: str, answer: str) -> bool:
    age = int(re.sub(r"\D", "", text))
    bands = {"free": range(6), "child": range(6, 18), "full": range(18, 65)}
    bands["reduced"] = range(65, 130)
    return answer in bands and age in bands[answer]


def password_check(text: str, answer: str) -> bool:
    accepted = re.fullmatch(r"(?=.*[0-9])(?=.*[A-Z]).{8,}", text)
    return answer == ("accept" if accepted else "reject")


def word_colour(text: str, answer: str) -> bool:
    return answer == ("blue" if re.fullmatch(r"(..)+", text) else "red")


def delivery_way(text: str, answer: str) -> bool:
    found = re.fullmatch(r"an? \w+ of ([\d.]+) kg, (abroad|within the country)", text)
    assert found
    if answer == "air":
        return found[2] == "abroad"
    heavy = float(found[1]) > 2
    return found[2] != "abroad" and answer == ("truck" if heavy else "post")


def fizz_buzz(text: str, answer: str) -> bool:
    three, five = sum(map(int, text)) % 3 == 0, text[-1] in "05"
    words = {(True, True): "fizzbuzz", (True, False): "fizz", (False, True): "buzz"}
    return answer == words.get((three, five), "none")


def two_remarks(text: str, answer: str) -> bool:
    said = re.findall(r"[a-z]+", text.lower())
    likes = sum(word in PRAISE.split() for word in said)
    dislikes = sum(word in BLAME.split() for word in said)
    assert likes + dislikes == 2, text
    return answer == ("bad", "mixed", "good")[likes]


def compare_heights(text: str, answer: str) -> bool:
    taller = [
        (one, two) if word == "taller" else (two, one)
        for one, word, two in re.findall(r"(\w+) is (taller|shorter) than (\w+)", text)
    ]
    people = sorted({person for pair in taller for person in pair})
    rankings = [
        ranking
        for ranking in permutations(people)
        if all(ranking.index(one) < ranking.index(two) for one, two in taller)
    ]
    wanted = 0 if text.endswith("tallest?") else -1
    return {ranking[wanted] for ranking in rankings} == {answer}


def next_number(text: str, answer: str) -> bool:
    terms = [int(term) for term in text.split(", ")]
    steps = [two - one for one, two in pairwise(terms)]
    growth = {two - one for one, two in pairwise(steps)}
    possible = set()
    if growth in ({0}, {1}):
        possible.add(terms[-1] + steps[-1] + growth.pop())
    if all(two * terms[0] == one * terms[1] for one, two in pairwise(terms)):
        possible.add(terms[-1] * terms[1] // terms[0])
    return possible == {int(answer)}


def cups_and_coin(text: str, answer: str) -> bool:
    start, *swaps = text.lower().rstrip(".").split(". ")
    row = ["red", "blue", "green"]
    coin = next(place for place, cup in enumerate(row) if cup in start.split())
    for swap in swaps:
        one, two = (row.index(cup) for cup in swap.split()[:3:2])
        row[one], row[two] = row[two], row[one]
    return row[coin] == answer


def quarter_turns(text: str, answer: str) -> bool:
    compass = {"north": 1j, "east": 1 + 0j, "south": -1j, "west": -1 + 0j}
    start, turns = text.split(": ")
    direction = compass[start]
    for turn in turns.split(", "):
        direction *= {"left": 1j, "right": -1j}[turn]
    return compass[answer] == direction


def what_follows(text: str, answer: str) -> bool:
    """Look at every way the person could belong to the two groups and be in line with the text."""
    shape = r"(\w+) (\w+)s are (\w+)s\. (\w+) is (a|not a) (\w+)\. Is \4 a (\w+)\?"
    found = re.fullmatch(shape, text)
    assert found, text
    possible = set()
    for belongs in product((True, False), repeat=2):
        member = dict(zip(found.group(2, 3), belongs, strict=True))
        if found[1] == "All" and belongs == (True, False):
            continue
        if found[1] == "No" and belongs == (True, True):
            continue
        if member[found[6]] == (found[5] == "a"):
            possible.add(member[found[7]])
    follows = {frozenset({True}): "yes", frozenset({False}): "no"}
    return answer == follows.get(frozenset(possible), "unknown")


def chemical_symbol(text: str, answer: str) -> bool:
    return answer == dict(zip(ELEMENTS.split(), SYMBOLS.split(), strict=True))[text]


RULES: dict[str, Callable[[str, str], bool]] = {
    rule.__name__: rule
    for rule in (
        *(plural_of_noun, past_tense, superlative_of_adjective, person_who, odd_word_out),
        *(zoo_ticket, password_check, word_colour, delivery_way, fizz_buzz, two_remarks),
        *(compare_heights, next_number, cups_and_coin, quarter_turns, what_follows),
        chemical_symbol,
    )
}
