"""What each perturbation does; what holds for all of them is in `test_perturbations`."""

from __future__ import annotations

import random
import re
from typing import Literal

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engine.errors import InputError
from engine.perturb import (
    Change,
    Compose,
    DropExampleInputs,
    DropWords,
    Formatting,
    LetterCase,
    MaskWords,
    OrderExamples,
    Paraphrase,
    Perturbation,
    ResampleExamples,
    Shown,
    ShuffleWords,
    Typos,
)
from engine.perturb.boundaries import _WITHOUT_BLANKS
from engine.tasks import Task
from tests.engine.examples import make_task
from tests.engine.perturb.test_perturbations import (
    NUMBERS,
    SEEDS,
    TASKS,
    TEXTS,
    apply,
    definition_change,
)


def _first_release(text: str, rate: float, rng: random.Random) -> str:
    """Drop words as the first release did; its scores must repeat. It dropped blanks at ends."""
    words = re.findall(r"\S+\s*", text)
    kept = [word for word in words if rng.random() >= rate]
    if not kept and words:
        kept = [rng.choice(words)]
    return text.replace(text.strip(), "".join(kept).strip(), 1) if words else text


@given(TASKS, st.floats(0, 0.99), SEEDS, NUMBERS)
@settings(deadline=None, max_examples=200)
def test_drop_words_draws_as_the_first_release_did(
    task: Task, rate: float, seed: int, j: int
) -> None:
    """Of scripts with blanks between words; others had no words to drop then."""
    changed = apply(DropWords(rate=rate), task, j, seed)
    remaining = iter(task.definition)
    assert all(letter in remaining for letter in changed.definition), "of any script"
    texts = [
        task.definition,
        *(one.input for one in task.positive_examples + task.negative_examples),
    ]
    assume(not any(_WITHOUT_BLANKS.search(text) for text in texts))

    def expected(text: str, part: str) -> str:
        return _first_release(text, rate, random.Random(f"perturb/{seed}/{task.id}/{j}/{part}"))

    assert changed.definition == expected(task.definition, "definition")
    for kind in ("positive_examples", "negative_examples"):
        for n, (old, new) in enumerate(
            zip(getattr(task, kind), getattr(changed, kind), strict=True)
        ):
            text = expected(old.input, f"{kind}/{n}")
            assert new == old.model_copy(update={"input": text})


@given(TASKS, st.floats(0, 0.99), SEEDS, NUMBERS)
@settings(deadline=None, max_examples=50)
def test_parts_that_are_no_target_stay(task: Task, rate: float, seed: int, j: int) -> None:
    def dropped(*targets: Literal["definition", "example_inputs"]) -> Task:
        return apply(DropWords(rate=rate, targets=targets), task, j, seed)

    both = dropped("definition", "example_inputs")
    assert dropped() == task
    assert dropped("definition") == task.model_copy(update={"definition": both.definition})
    assert dropped("example_inputs") == both.model_copy(update={"definition": task.definition})


def test_one_word_always_stays_and_it_is_not_always_the_same() -> None:
    task = make_task(definition="one two three")
    left = {apply(DropWords(rate=0.99), task, j).definition for j in range(1, 300)}
    assert {"one", "two", "three"} <= left
    assert "" not in left


@pytest.mark.parametrize("text", ["  one\ttwo \n three ", "", "one"])
def test_blanks_between_words_and_at_the_ends_stay(text: str) -> None:
    task = make_task().model_copy(update={"definition": text})
    assert apply(DropWords(rate=0.0), task, 1).definition == text


def test_an_example_is_changed_the_same_way_whether_or_not_others_are_shown() -> None:
    task = make_task(n_positive=3)
    fewer = task.model_copy(update={"positive_examples": task.positive_examples[:1]})
    one, other = apply(DropWords(rate=0.5), task, 1), apply(DropWords(rate=0.5), fewer, 1)
    assert one.positive_examples[0] == other.positive_examples[0]
    assert one.definition == other.definition


@given(st.floats(0, 0.99), SEEDS, NUMBERS)
@settings(deadline=None, max_examples=40)
def test_masks_stand_where_words_would_be_dropped(rate: float, seed: int, j: int) -> None:
    text = "one two\nthree  four five"
    masked, change = definition_change(MaskWords(rate=rate, mask="_"), text, seed, j)
    dropped, _ = definition_change(DropWords(rate=rate), text, seed, j)
    assert re.findall(r"\s+", masked) == re.findall(r"\s+", text)
    assert [word for word in masked.split() if word != "_"] == dropped.split()
    assert change == Change(
        perturbation="mask_words",
        part="definition",
        changed=masked.count("_"),
        total=5,
        unit="words",
    )


@given(st.floats(0, 1), SEEDS, NUMBERS)
@settings(deadline=None, max_examples=40)
def test_shuffled_words_move_by_one_place(rate: float, seed: int, j: int) -> None:
    before = [f"w{index}" for index in range(30)]
    after, change = definition_change(ShuffleWords(rate=rate), " ".join(before), seed, j)
    moves = [before.index(word) - place for place, word in enumerate(after.split())]
    assert sorted(after.split()) == sorted(before)
    assert {*moves} <= {-1, 0, 1}
    assert moves.count(1) == moves.count(-1) == change.changed


@given(TEXTS.filter(lambda text: bool(text.strip())), SEEDS, NUMBERS)
@settings(deadline=None, max_examples=100)
def test_typing_mistakes_leave_every_word_and_all_that_is_no_letter(
    text: str, seed: int, j: int
) -> None:
    typed, change = definition_change(Typos(rate=0.5), text, seed, j)
    assert len(typed.split()) == len(text.split())
    for old, new in zip(text.split(), typed.split(), strict=True):
        assert any(map(str.isalpha, new)) == any(map(str.isalpha, old))
        assert [c for c in new if not c.isalpha()] == [c for c in old if not c.isalpha()]
    assert change.changed <= change.total <= sum(map(str.isalpha, text))


@given(TEXTS.filter(lambda text: text.isascii() and bool(text.strip())), SEEDS, NUMBERS)
@settings(deadline=None, max_examples=60)
def test_another_letter_case_is_the_same_text(text: str, seed: int, j: int) -> None:
    cased, change = definition_change(LetterCase(rate=0.8), text, seed, j)
    assert cased.lower() == text.lower()
    differing = sum(a != b for a, b in zip(text.split(), cased.split(), strict=True))
    assert change.changed == differing


@given(st.lists(st.sampled_from(["Say it.", "Be brief!", "Colors:", "why"])), SEEDS, NUMBERS)
@settings(deadline=None, max_examples=100)
def test_another_form_has_the_same_words(sentences: list[str], seed: int, j: int) -> None:
    text = " ".join(["Judge.", *sentences])
    formed, change = definition_change(Formatting(), text, seed, j)
    assert re.findall(r"\w+", formed) == re.findall(r"\w+", text)
    assert formed.strip() != text, "layouts strip what they are given"
    assert change.changed >= 1


@given(st.integers(1, 5), st.integers(0, 4), SEEDS, NUMBERS)
@settings(deadline=None, max_examples=100)
def test_other_examples_are_other_ones_in_the_tasks_order(
    count: int, spare: int, seed: int, j: int
) -> None:
    task = make_task(n_positive=count + spare)
    changed, changes = Perturbation(ResampleExamples(), seed).trace(task, j, Shown(count, 0))
    places = [task.positive_examples.index(one) for one in changed.positive_examples]
    assert len(places) == count
    assert places == sorted(set(places))
    assert (places == list(range(count))) == (spare == 0)
    assert changes[0].changed == sum(place != index for index, place in enumerate(places))


@given(st.integers(1, 5), SEEDS, NUMBERS)
@settings(deadline=None, max_examples=60)
def test_another_order_has_the_same_examples(count: int, seed: int, j: int) -> None:
    task = make_task(n_positive=6)
    changed = apply(OrderExamples(), task, j, seed, Shown(count, 0))
    places = [task.positive_examples.index(one) for one in changed.positive_examples]
    assert sorted(places) == list(range(count))
    assert (places == list(range(count))) == (count == 1)


def test_only_the_chosen_kind_of_examples_changes() -> None:
    task = make_task(n_positive=3, n_negative=3)
    changed = apply(DropExampleInputs(rate=1, kinds=("negative_examples",)), task)
    assert changed.positive_examples == task.positive_examples
    assert [one.input for one in changed.negative_examples] == [""] * 3


def test_a_composition_is_its_steps_one_after_the_other() -> None:
    task = make_task(n_positive=4)
    alone = apply(DropWords(rate=0.5), task, 1, 3)
    assert apply(Compose(steps=(DropWords(rate=0.5),)), task, 1, 3) == alone
    both, changes = Perturbation(
        Compose(steps=(DropWords(rate=0.5), LetterCase(rate=1, styles=("upper",)))), 3
    ).trace(task, 1)
    assert both.definition == alone.definition.upper()
    assert {change.perturbation for change in changes} == {"drop_words", "letter_case"}
    twice = apply(Compose(steps=(DropWords(rate=0.5), DropWords(rate=0.5))), task, 1, 3)
    assert twice.definition != alone.definition, "the second step has draws of its own"
    assert not Compose(steps=(DropWords(), DropExampleInputs())).may_lengthen()
    assert Compose(steps=(DropWords(), Typos())).may_lengthen()


def test_paraphrases_are_taken_in_turn() -> None:
    task = make_task(definition="Say it")
    step = Paraphrase(texts={"Say it": ("Tell me", "Say it")})
    assert apply(step, task, 0) is task
    changed, (change,) = Perturbation(step, 0).trace(task, 1)
    assert changed.definition == "Tell me"
    assert (change.changed, change.total, change.unit) == (1, 1, "texts")
    _, (change,) = Perturbation(step, 0).trace(task, 2)
    assert change.changed == 0
    with pytest.raises(InputError, match="no paraphrase 3 of the text that begins 'Say it'") as no:
        apply(step, task, 3)
    assert (no.value.record, no.value.field) == ("colors", "perturbation.texts")
