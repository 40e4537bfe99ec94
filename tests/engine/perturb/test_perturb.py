"""Perturbations change what they should, as much as they should, and the same way every time."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.perturb import DropWords, Perturbation, make_perturbation
from engine.prompts import super_natural_instructions
from engine.prompts.prompt_config import PromptConfig
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


@given(st.floats(0.01, 0.95), SEEDS, NUMBERS)
@settings(deadline=None, max_examples=60)
def test_the_share_of_dropped_words_is_the_rate(rate: float, seed: int, j: int) -> None:
    n = 4000
    text = " ".join(f"w{index}" for index in range(n))
    task = make_task(definition=text)
    dropped = n - len(drop_words(rate, seed).apply(task, j).definition.split())
    # Six standard deviations: once in half a billion draws outside.
    assert abs(dropped - n * rate) <= 6 * math.sqrt(n * rate * (1 - rate)) + 1


def test_every_word_is_as_likely_to_go() -> None:
    task = make_task(definition="one two three four five")
    n = 3000
    kept = [drop_words(0.3).apply(task, j).definition.split() for j in range(1, n + 1)]
    for word in task.definition.split():
        share = sum(word in words for words in kept) / n
        assert abs(share - 0.7) < 6 * math.sqrt(0.3 * 0.7 / n)


def test_one_word_always_stays_and_it_is_not_always_the_same() -> None:
    task = make_task(definition="one two three")
    left = {drop_words(0.99).apply(task, j).definition for j in range(1, 300)}
    assert {"one", "two", "three"} <= left
    assert "" not in left


@pytest.mark.parametrize(
    ("text", "expected"),
    [("  one\ttwo \n three ", "one\ttwo \n three"), ("", ""), ("one", "one")],
)
def test_blanks_between_words_stay(text: str, expected: str) -> None:
    task = make_task().model_copy(update={"definition": text})
    assert drop_words(0.0).apply(task, 1).definition == expected


def test_draws_differ_between_perturbations_seeds_tasks_and_parts() -> None:
    text = " ".join(f"w{index}" for index in range(200))
    task, other = make_task("a", definition=text), make_task("b", definition=text)
    example = Example(input=text, output="x")
    task = task.model_copy(update={"positive_examples": (example, example)})
    first, second = drop_words(seed=0), drop_words(seed=1)
    changed = first.apply(task, 1)
    texts = [
        changed.definition,
        *(example.input for example in changed.positive_examples),
        first.apply(task, 2).definition,
        second.apply(task, 1).definition,
        first.apply(other, 1).definition,
    ]
    assert len(set(texts)) == len(texts)


def test_an_example_is_changed_the_same_way_whether_or_not_others_are_shown() -> None:
    task = make_task(n_positive=3)
    fewer = task.model_copy(update={"positive_examples": task.positive_examples[:1]})
    one, other = drop_words(0.5).apply(task, 1), drop_words(0.5).apply(fewer, 1)
    assert one.positive_examples[0] == other.positive_examples[0]
    assert one.definition == other.definition


def test_all_instances_share_the_perturbed_prefix() -> None:
    task = make_task(n_instances=6)
    config = PromptConfig(n_negative_examples=1)
    seen = set()
    for j in range(1, 6):
        changed = drop_words(0.5).apply(task, j)
        prefixes = set()
        for instance in task.instances:
            text = super_natural_instructions(changed, instance, config.explanations)
            prefix, mark, rest = text.rpartition("Now complete the following example -\n")
            assert mark
            assert rest == f"Input: {instance.input}.\nOutput:"
            prefixes.add(prefix)
        assert len(prefixes) == 1
        seen |= prefixes
    assert len(seen) == 5


_PRINT_PERTURBED = """
from engine.perturb import DropWords, make_perturbation
from tests.engine.examples import make_task
perturbation = make_perturbation(DropWords(rate=0.5), 7)
for j in range(4):
    print(perturbation.apply(make_task(), j).model_dump_json())
"""


def test_every_process_draws_the_same() -> None:
    printed = [
        subprocess.run(
            [sys.executable, "-c", _PRINT_PERTURBED],
            env={
                **os.environ,
                "PYTHONHASHSEED": hash_seed,
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    here = make_perturbation(DropWords(rate=0.5), 7)
    expected = "".join(here.apply(make_task(), j).model_dump_json() + "\n" for j in range(4))
    assert printed == [expected, expected]
