"""Classification by meaning: what a sentence feels, judges or is about."""

from __future__ import annotations

from random import Random

from engine.pools.bundled.book import Book

SENTIMENT = Book("sentiment")
TEXT_CLASSIFICATION = Book("text_classification")

SENTIMENT.table_task(
    "review_sentiment",
    "Somebody has bought or used something and writes about it. Does the writer seem pleased or "
    "not? Answer positive if the sentence praises and negative if it complains.",
    good=[
        ("I would buy this kettle again at once.", "positive", "The writer is pleased."),
        ("The zip broke on the first day.", "negative", "The writer reports a defect."),
    ],
    bad=[
        ("Nothing about this phone disappoints me.", "negative", "Nothing disappoints: praise."),
        ("The chair wobbles and squeaks.", "bad", "The answer must be positive or negative."),
    ],
    labels=("positive", "negative"),
)
SENTIMENT.table_task(
    "feeling_of_speaker",
    "Read what a person says and choose the feeling that it expresses most clearly. The four "
    "choices are joy, anger, fear and sadness.",
    good=[
        ("We won the cup, I can't stop smiling!", "joy", "The speaker is happy about a victory."),
        ("I still cry when I hear her name.", "sadness", "The speaker mourns somebody."),
    ],
    bad=[
        ("Something moved under my bed!", "joy", "The speaker is frightened: fear."),
        ("How dare you open my letters!", "sadness", "This is an outburst of anger."),
    ],
    labels=("joy", "anger", "fear", "sadness"),
)

_PRAISE = (
    *("the soup was delicious", "the waiter was friendly", "the room was spotless"),
    *("the view was wonderful", "the bed was comfortable", "the breakfast was excellent"),
    *("the music was lovely", "the prices were fair", "the staff were helpful"),
)
_BLAME = (
    *("the bread was stale", "the manager was rude", "the bathroom was dirty"),
    *("the street was noisy", "the coffee was terrible", "the chairs were broken"),
    *("the service was slow", "the food was cold", "the lift was defective"),
)


@SENTIMENT.task(
    "A guest mentions two things about a hotel or a restaurant. Answer good if the guest liked "
    "both, bad if the guest liked neither, and mixed if one was liked and the other was not.",
    good=[
        ("The pool was clean, but the towels were torn.", "mixed", "One praise, one complaint."),
        ("The lamp was dim and the carpet was filthy.", "bad", "Both remarks are complaints."),
    ],
    bad=[
        ("The cake was tasty, but the tea was bitter.", "good", "The tea was not liked: mixed."),
        ("The porter was kind and the garden was pretty.", "mixed", "Both were liked: good."),
    ],
    labels=("good", "bad", "mixed"),
)
def _two_remarks(rng: Random) -> tuple[str, str]:
    sides = (rng.random() < 0.5, rng.random() < 0.5)
    if sides[0] == sides[1]:
        first, second = rng.sample(_PRAISE if sides[0] else _BLAME, 2)
        text, label = f"{first} and {second}.", "good" if sides[0] else "bad"
    else:
        first, second = (rng.choice(_PRAISE if liked else _BLAME) for liked in sides)
        text, label = f"{first}, but {second}.", "mixed"
    return text[0].upper() + text[1:], label


TEXT_CLASSIFICATION.table_task(
    "message_topic",
    "Sort a short message into one of four boxes. The boxes are labelled sport, food, weather and "
    "money. Write the label of the box to which the message belongs.",
    good=[
        ("The goalkeeper saved two penalties.", "sport", "Goalkeepers play football."),
        ("Fry the onions until they are golden.", "food", "It is a step of a recipe."),
    ],
    bad=[
        ("Thick fog is expected before dawn.", "money", "Fog is part of the weather."),
        ("The bank has raised its interest rates.", "banking", "The box is labelled money."),
    ],
    labels=("sport", "food", "weather", "money"),
)
TEXT_CLASSIFICATION.table_task(
    "fact_or_opinion",
    "Is the sentence a fact or an opinion? A fact can be checked by measuring, counting or looking "
    "it up. An opinion says what somebody likes, dislikes or finds important. Do not judge whether "
    "you agree.",
    good=[
        ("Water is made of hydrogen and oxygen.", "fact", "It can be looked up."),
        ("Autumn is the loveliest season.", "opinion", "Not everybody likes autumn best."),
    ],
    bad=[
        ("Cats are nicer than dogs.", "fact", "It depends on what one likes: opinion."),
        ("A minute has sixty seconds.", "true", "The answer must be fact or opinion."),
    ],
    labels=("fact", "opinion"),
)
