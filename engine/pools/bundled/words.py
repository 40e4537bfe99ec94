"""Word knowledge: the forms that an English word takes, and what it means beside other words."""

from __future__ import annotations

from random import Random

from engine.pools.bundled.book import Book
from engine.pools.bundled.lexicon import GROUPS

WORD_FORMS = Book("word_forms")
WORD_MEANING = Book("word_meaning")

WORD_FORMS.table_task(
    "plural_of_noun",
    "Give the plural of the English noun. Many nouns just take -s or -es, but take care: some of "
    "them change their spelling or have a plural form of their own.",
    good=[
        ("flag", "flags", "A regular noun takes -s."),
        ("lady", "ladies", "After a consonant, y becomes ies."),
    ],
    bad=[
        ("louse", "louses", "The plural is irregular: lice."),
        ("elf", "elfs", "The f becomes v: elves."),
    ],
)
WORD_FORMS.table_task(
    "past_tense",
    "What is the simple past of this verb? Put the one word in the place of the gap: Yesterday "
    "they ___ . Beware of irregular verbs, and of regular ones that double a letter.",
    good=[
        ("talk", "talked", "A regular verb takes -ed."),
        ("begin", "began", "The verb is irregular: begin, began, begun."),
    ],
    bad=[
        ("draw", "drawed", "The past of draw is drew."),
        ("eat", "eaten", "This is the past participle; the simple past is ate."),
    ],
)
WORD_FORMS.table_task(
    "superlative_of_adjective",
    "You see an adjective in its basic form. Write its superlative, the form that describes the "
    "top of the scale. Leave out the article the; longer adjectives need the word most.",
    good=[
        ("short", "shortest", "A short adjective takes -est."),
        ("colourful", "most colourful", "A long adjective is used with most."),
    ],
    bad=[
        ("quick", "quicker", "This is the comparative; the superlative is quickest."),
        ("pretty", "prettyest", "The y turns into i: prettiest."),
    ],
)
WORD_FORMS.table_task(
    "person_who",
    "Name the person who does what the verb says, using one noun derived from that verb. The usual "
    "ending is -er, yet some of these nouns end in -or, -ant, -ent, -ist or -ar.",
    good=[
        ("listen", "listener", "Somebody who listens is a listener."),
        ("decorate", "decorator", "This noun ends in -or."),
    ],
    bad=[
        ("sculpt", "sculpture", "A sculpture is a thing; the person is a sculptor."),
        ("train", "trainee", "A trainee is trained by somebody; who trains is a trainer."),
    ],
)
WORD_MEANING.table_task(
    "antonym",
    "Find one word that means the opposite of the given word. It has to be an ordinary word of its "
    "own: do not simply put not, un- or in- before the word.",
    good=[
        ("inside", "outside", "What is not inside is outside."),
        ("noisy", "quiet", "A quiet place is the opposite of a noisy one."),
    ],
    bad=[
        ("thick", "fat", "Fat is close in meaning to thick; the opposite is thin."),
        ("accept", "not accept", "A word of its own is needed, such as refuse."),
    ],
)

_KINDS = ("fruit", "tool", "vehicle", "garment", "instrument")


@WORD_MEANING.task(
    "What kind of thing does the word name? Choose one of five answers: fruit, tool, vehicle, "
    "garment (something one wears) or instrument (something one makes music with).",
    good=[
        ("fig", "fruit", "A fig grows on a tree and is eaten."),
        ("trousers", "garment", "Trousers are worn on the legs."),
    ],
    bad=[
        ("trombone", "tool", "A trombone makes music, so it is an instrument."),
        ("lime", "food", "Food is not one of the five answers; a lime is a fruit."),
    ],
    labels=_KINDS,
)
def _thing_kind(rng: Random) -> tuple[str, str]:
    kind = rng.choice(_KINDS)
    return rng.choice(GROUPS[kind]), kind


@WORD_MEANING.task(
    "Three of the four words belong together because they name things of the same kind. One word "
    "does not fit in with the others. Which one is it?",
    good=[
        ("oak, carrot, elm, birch", "carrot", "The other three are trees."),
        ("nose, ear, chin, sofa", "sofa", "The other three are parts of the face."),
    ],
    bad=[
        (
            "milk, juice, fork, water",
            "water",
            "Water is a drink like milk and juice; a fork is not.",
        ),
        ("iron, gold, lead, pine", "metals", "The odd word itself is asked for: pine."),
    ],
)
def _odd_word_out(rng: Random) -> tuple[str, str]:
    common, other = rng.sample(sorted(GROUPS), 2)
    odd = rng.choice(GROUPS[other])
    words = [*rng.sample(GROUPS[common], 3), odd]
    rng.shuffle(words)
    return ", ".join(words), odd
