"""Perturbations change what they should, as much as they should, and the same way every time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.perturb import DropWords, Perturbation, make_perturbation
from engine.tasks import Example, Task
from tests.engine.examples import make_task

RATES = st.floats(0, 0.99)
SEEDS = st.integers(0, 2**32)
NUMBERS = st.integers(1, 50)
TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60)

EXAMPLES = st.lists(
    st.builds(Example, input=TEXTS, output=TEXTS, explanation=TEXTS), max_size=3
).map(tuple)
TASKS = st.builds(
    Task,
    id=st.text("abc", min_size=1, max_size=4),
    definition=TEXTS.filter(bool),
    positive_examples=EXAMPLES,
    negative_examples=EXAMPLES,
    instances=st.just(make_task().instances),
)


def drop_words(rate: float = 0.2, seed: int = 0) -> Perturbation:
    return make_perturbation(DropWords(rate=rate), seed)


def is_subsequence(shorter: Sequence[str], longer: Sequence[str]) -> bool:
    remaining = iter(longer)
    return all(word in remaining for word in shorter)


@given(TASKS, RATES, SEEDS)
@settings(deadline=None, max_examples=50)
def test_the_zeroth_perturbation_is_the_very_task(task: Task, rate: float, seed: int) -> None:
    assert drop_words(rate, seed).apply(task, 0) is task


@given(TASKS, RATES, SEEDS, NUMBERS)
@settings(deadline=None, max_examples=100)
def test_only_words_go_and_only_from_definition_and_example_inputs(
    task: Task, rate: float, seed: int, j: int
) -> None:
    changed = drop_words(rate, seed).apply(task, j)
    assert (changed.id, changed.instances) == (task.id, task.instances)
    assert (changed.category, changed.labels) == (task.category, task.labels)
    texts = [(task.definition, changed.definition)]
    for kind in ("positive_examples", "negative_examples"):
        before: tuple[Example, ...] = getattr(task, kind)
        after: tuple[Example, ...] = getattr(changed, kind)
        for old, new in zip(before, after, strict=True):
            assert (new.output, new.explanation) == (old.output, old.explanation)
            texts.append((old.input, new.input))
    for old_text, new_text in texts:
        assert is_subsequence(new_text, old_text)
        if old_text.isascii():
            assert is_subsequence(new_text.split(), old_text.split())
        assert bool(new_text.split()) == bool(old_text.split()), "never empty"


@given(TASKS, RATES, SEEDS, NUMBERS)
@settings(deadline=None, max_examples=50)
def test_parts_that_are_no_target_stay(task: Task, rate: float, seed: int, j: int) -> None:
    def apply(*targets: Literal["definition", "example_inputs"]) -> Task:
        config = DropWords(rate=rate, targets=targets)
        return make_perturbation(config, seed).apply(task, j)

    both, definition, inputs = (
        apply("definition", "example_inputs"),
        apply("definition"),
        apply("example_inputs"),
    )
    assert apply() == task
    assert definition == task.model_copy(update={"definition": both.definition})
    assert inputs == both.model_copy(update={"definition": task.definition})


def test_one_word_always_stays_and_it_is_not_always_the_same() -> None:
    task = make_task(definition="one two three")
    left = {drop_words(0.99).apply(task, j).definition for j in range(1, 300)}
    assert {"one", "two", "three"} <= left
    assert "" not in left


@pytest.mark.parametrize("text", ["  one\ttwo \n three ", "", "one"])
def test_blanks_between_words_and_at_the_ends_stay(text: str) -> None:
    task = make_task().model_copy(update={"definition": text})
    assert drop_words(0.0).apply(task, 1).definition == text


def test_an_example_is_changed_the_same_way_whether_or_not_others_are_shown() -> None:
    task = make_task(n_positive=3)
    fewer = task.model_copy(update={"positive_examples": task.positive_examples[:1]})
    one, other = drop_words(0.5).apply(task, 1), drop_words(0.5).apply(fewer, 1)
    assert one.positive_examples[0] == other.positive_examples[0]
    assert one.definition == other.definition
