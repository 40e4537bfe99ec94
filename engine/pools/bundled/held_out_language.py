"""Held out for evaluation: grammar, rewriting, reference, translation, intent, cause and effect."""

from __future__ import annotations

from random import Random

from engine.pools.bundled.book import Book
from engine.pools.bundled.lexicon import MEN, NAMES, WOMEN

GRAMMAR = Book("grammar")
SENTENCE_REWRITING = Book("sentence_rewriting")
COREFERENCE = Book("coreference")
TRANSLATION = Book("translation")
INTENT_DETECTION = Book("intent_detection")
CAUSAL_CHOICE = Book("causal_choice")

GRAMMAR.table_task(
    "article_choice",
    "Which form of the indefinite article stands before these words, a or an? It is the sound that "
    "decides and not the spelling.",
    good=[
        ("orange", "an", "The word begins with a vowel sound."),
        ("used bicycle", "a", "Used begins with the sound of y in you."),
    ],
    bad=[
        ("hourly report", "a", "The h is silent, so an is needed."),
        ("unicorn", "an", "Unicorn begins with the sound of y in you."),
    ],
    labels=("a", "an"),
)


@GRAMMAR.task(
    "Two forms of a verb are offered in brackets. Choose the one that agrees with the subject of "
    "the sentence. Do not be misled by other nouns that stand nearer to the verb.",
    good=[
        ("The dog behind the bushes (bark / barks).", "barks", "The subject is the one dog."),
        ("Our aunts from the city (visit / visits) us.", "visit", "The aunts are several."),
    ],
    bad=[
        ("The box under the shelves (belong / belongs) to Ann.", "belong", "The box is singular."),
        ("The cars near the house (look / looks) old.", "looks", "The cars are plural."),
    ],
)
def _verb_agreement(rng: Random) -> tuple[str, str]:
    subject = rng.choice(("boy", "girl", "teacher", "farmer", "sailor", "doctor", "cousin"))
    near = rng.choice(("tower", "tree", "river", "house", "wall", "bench", "stair"))
    verb, rest = rng.choice(
        (
            ("sing", "every morning"),
            ("wait", "for the bus"),
            ("work", "all day"),
            ("smile", "at everyone"),
            ("speak", "three languages"),
            ("know", "the way home"),
        )
    )
    plural = rng.random() < 0.5
    # mostly a neighbour that points the wrong way
    near_plural = not plural if rng.random() < 0.8 else plural
    near += ("es" if near == "bench" else "s") if near_plural else ""
    place = rng.choice(("near", "behind", "beside"))
    return (
        f"The {subject}{'s' if plural else ''} {place} the {near} ({verb} / {verb}s) {rest}.",
        verb if plural else f"{verb}s",
    )


@SENTENCE_REWRITING.task(
    "Turn the statement into a question that can be answered with yes or no. Use the same words, "
    "but bring the helping verb to the front and end with a question mark.",
    good=[
        ("Kim can drive a truck.", "Can Kim drive a truck?", "Can moves to the front."),
        ("Lee is cooking lunch.", "Is Lee cooking lunch?", "Is and Lee change places."),
    ],
    bad=[
        ("Ann will call us.", "Ann will call us?", "The helping verb was not moved."),
        ("Joe has lost a glove.", "Did Joe lose a glove?", "The words were changed."),
    ],
)
def _statement_to_question(rng: Random) -> tuple[str, str]:
    helper, rest = rng.choice(
        (
            ("can", "swim across the lake"),
            ("can", "read these old letters"),
            ("will", "be here before noon"),
            ("will", "sell the blue car"),
            ("has", "seen the new film"),
            ("has", "eaten all the grapes"),
            ("is", "hiding from the rain"),
            ("is", "waiting at the corner"),
            ("was", "born in a small town"),
            ("should", "wear a warmer coat"),
            ("must", "finish the report today"),
        )
    )
    name = rng.choice(NAMES)
    return f"{name} {helper} {rest}.", f"{helper.capitalize()} {name} {rest}?"


@COREFERENCE.task(
    "A sentence about a woman and a man is followed by a question. Find out from the pronoun whom "
    "the question is about, and answer with that person's first name.",
    good=[
        ("Eva met Max after he had left work. Who had left work?", "Max", "He must be Max."),
        ("Karl wrote to Rita before she moved. Who moved?", "Rita", "She must be Rita."),
    ],
    bad=[
        ("Eva called Karl while she was in bed. Who was in bed?", "Karl", "She must be Eva."),
        ("Rita saw Max when he fell. Who fell?", "he", "The name is asked for: Max."),
    ],
)
def _pronoun_referent(rng: Random) -> tuple[str, str]:
    woman, man = rng.choice(WOMEN), rng.choice(MEN)
    answer, pronoun = rng.choice(((woman, "she"), (man, "he")))
    first, second = rng.sample((woman, man), 2)
    meeting = rng.choice(("met", "called", "wrote to", "noticed", "waved to"))
    event = rng.choice(
        (
            "had left the office",
            "was crossing the street",
            "had missed the train",
            "was looking for a flat",
            "had found a new job",
        )
    )
    link = "after" if event.startswith("had") else "while"
    return f"{first} {meeting} {second} {link} {pronoun} {event}. Who {event}?", answer


TRANSLATION.table_task(
    "english_to_spanish",
    "Translate the English word into Spanish. Give a single word in lower case, without an "
    "article. Adjectives stand in the masculine singular.",
    good=[
        ("tree", "árbol", "Árbol is the Spanish word for tree."),
        ("small", "pequeño", "This is the masculine singular form."),
    ],
    bad=[
        ("snow", "neige", "Neige is French; the Spanish word is nieve."),
        ("train", "el tren", "The article must be left out."),
    ],
)
INTENT_DETECTION.table_task(
    "assistant_intent",
    "People talk to the assistant on their phone. Decide which part of the phone has to deal with "
    "the request: alarm, music, weather or message.",
    good=[
        ("Get me out of bed at seven.", "alarm", "The speaker wants to be woken."),
        ("Tell Grandpa we are on our way.", "message", "Something is to be sent to Grandpa."),
    ],
    bad=[
        ("Should I take sunglasses tomorrow?", "alarm", "It depends on the weather."),
        ("Skip this song.", "song", "Song is not one of the four parts; it is music."),
    ],
    labels=("alarm", "music", "weather", "message"),
)
CAUSAL_CHOICE.table_task(
    "likely_effect",
    "Something happened. Two possible results are offered, of which one is much more likely than "
    "the other. Choose it by its letter, A or B.",
    good=[
        (
            "The cup fell on the stones. A: It broke. B: It grew.",
            "A",
            "Cups break when they fall on stones.",
        ),
        (
            "It rained all night. A: The river ran dry. B: The river rose.",
            "B",
            "Rain makes rivers rise.",
        ),
    ],
    bad=[
        (
            "He forgot his key. A: He could not get in. B: He won a prize.",
            "B",
            "Without a key one cannot get in; A is more likely.",
        ),
        (
            "She oiled the hinge. A: It rang. B: The door stopped squeaking.",
            "The door stopped squeaking",
            "The choice is right, but the letter B is asked for.",
        ),
    ],
    labels=("A", "B"),
)
