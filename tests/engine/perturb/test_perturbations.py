"""What holds for every perturbation; what each does is in `test_each_perturbation`."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from engine.errors import InputError
from engine.perturb import (
    PERTURBATIONS,
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
    PerturbationConfig,
    ResampleExamples,
    Shown,
    ShuffleWords,
    Typos,
)
from engine.perturb.base import Step
from engine.prompts import PromptBuilder, super_natural_instructions
from engine.prompts.prompt_config import PromptConfig
from engine.protocol.score_config import ScoreConfig
from engine.questions.pair_plan import plan_pairs, plan_task
from engine.schema_text import summary
from engine.tasks import Example, Task
from tests.engine.examples import make_task
from tests.engine.small_tokenizers import gpt2

TARGETS = ("definition", "example_inputs", "example_outputs")
EVERYTHING: list[Step] = [
    DropWords(rate=0.5, targets=TARGETS),
    MaskWords(rate=0.5, targets=TARGETS),
    ShuffleWords(rate=0.5, targets=TARGETS),
    Typos(rate=0.3, targets=TARGETS),
    LetterCase(rate=0.7, targets=TARGETS),
    Formatting(targets=TARGETS),
    DropExampleInputs(),
    ResampleExamples(),
    OrderExamples(),
    Compose(steps=(ResampleExamples(), OrderExamples(), Typos(), DropWords(), Formatting())),
]
STEPS = st.sampled_from(EVERYTHING)
TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60)
EXAMPLES = st.lists(
    st.builds(Example, input=TEXTS, output=TEXTS, explanation=TEXTS), max_size=5
).map(tuple)
TASKS = st.builds(
    Task,
    id=st.text("abc", min_size=1, max_size=4),
    definition=TEXTS.filter(lambda text: bool(text.strip())),
    positive_examples=EXAMPLES,
    negative_examples=EXAMPLES,
    instances=st.just(make_task().instances),
)
SHOWN = st.one_of(st.none(), st.builds(Shown, st.integers(0, 3), st.integers(0, 3)))
SEEDS = st.integers(0, 2**32)
NUMBERS = st.integers(1, 50)


def apply(step: Step, task: Task, j: int = 1, seed: int = 0, shown: Shown | None = None) -> Task:
    return Perturbation(step, seed).apply(task, j, shown)


def definition_change(step: Step, text: str, seed: int, j: int) -> tuple[str, Change]:
    perturbation = Perturbation(step, seed)
    task, changes = perturbation.trace(make_task(definition=text), j, Shown(0, 0))
    (change,) = changes
    return task.definition, change


# --- All of them ------------------------------------------------------------------------------


@given(STEPS, TASKS, SHOWN, SEEDS, NUMBERS)
@settings(deadline=None, max_examples=200)
def test_each_repeats_itself_and_leaves_the_question_alone(
    step: Step, task: Task, shown: Shown | None, seed: int, j: int
) -> None:
    perturbation = Perturbation(step, seed)
    assert perturbation.trace(task, 0) == (task, ())
    assert perturbation.apply(task, 0) is task
    changed, changes = perturbation.trace(task, j, shown)
    assert (changed, changes) == Perturbation(step, seed).trace(task, j, shown)
    assert changed == perturbation.apply(task, j, shown)
    assert changed.instances is task.instances
    assert (changed.id, changed.category, changed.labels) == (task.id, None, ())
    counts = shown or Shown(99, 99)
    assert len(changed.positive_examples) == min(len(task.positive_examples), counts.n_positive)
    assert len(changed.negative_examples) == min(len(task.negative_examples), counts.n_negative)
    for kind in ("positive_examples", "negative_examples"):
        before, after = ({one.explanation for one in getattr(t, kind)} for t in (task, changed))
        assert after <= before
    assert all(0 <= change.changed <= change.total for change in changes)
    # What is not empty never becomes empty, and its ends are no wording.
    bare = changed.definition.strip()
    assert bare
    assert changed.definition == task.definition.replace(task.definition.strip(), bare, 1)


@given(STEPS, TASKS, SEEDS, NUMBERS)
@settings(deadline=None, max_examples=100)
def test_a_report_of_no_change_is_true(step: Step, task: Task, seed: int, j: int) -> None:
    changed, changes = Perturbation(step, seed).trace(task, j)
    for change in changes:
        if change.part == "definition" and not isinstance(step, Compose) and not change.changed:
            assert changed.definition == task.definition


@given(STEPS, st.integers(0, 3), st.integers(0, 3), SEEDS, NUMBERS)
@settings(deadline=None, max_examples=100)
def test_all_instances_share_the_perturbed_prefix(
    step: Step, n_positive: int, n_negative: int, seed: int, j: int
) -> None:
    task = make_task(n_instances=4, n_positive=4, n_negative=4)
    changed = apply(step, task, j, seed, Shown(n_positive, n_negative))
    prefixes = set()
    for instance in task.instances:
        text = super_natural_instructions(changed, instance, False)
        prefix, mark, rest = text.rpartition("Now complete the following example -\n")
        assert rest == f"Input: {instance.input}.\nOutput:"
        prefixes.add(prefix + mark)
    assert len(prefixes) == 1


@pytest.mark.parametrize("step", EVERYTHING, ids=lambda step: step.name)
def test_perturbations_seeds_and_tasks_draw_differently(step: Step) -> None:
    text = "Say. " + " ".join(f"word{index}" for index in range(60))
    examples = tuple(Example(input=f"{n} {text}", output=f"{n} {text}") for n in range(12))

    def task(name: str) -> Task:
        return Task(id=name, definition=text, positive_examples=examples)

    def shown(task: Task, j: int, seed: int) -> str:
        return (
            apply(step, task, j, seed, Shown(6, 0)).model_copy(update={"id": ""}).model_dump_json()
        )

    drawn = [shown(task("a"), j, seed) for j in range(1, 4) for seed in range(3)]
    drawn += [shown(task("b"), j, 0) for j in range(1, 4)]
    assert len(set(drawn)) == len(drawn)


_PRINT = """
from tests.engine.perturb.test_perturbations import EVERYTHING, apply, make_task
for step in EVERYTHING:
    for j in range(4):
        print(apply(step, make_task(n_positive=4), j, 7).model_dump_json())
"""


@pytest.mark.slow
def test_every_process_draws_the_same() -> None:
    printed = [
        subprocess.run(
            [sys.executable, "-c", _PRINT],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path.cwd())},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    here = [
        apply(step, make_task(n_positive=4), j, 7).model_dump_json()
        for step in EVERYTHING
        for j in range(4)
    ]
    assert printed == ["\n".join(here) + "\n"] * 2


@given(
    st.sampled_from([DropWords, MaskWords, LetterCase, Typos, ShuffleWords]),
    st.floats(0.01, 0.95),
    SEEDS,
    NUMBERS,
)
@settings(deadline=None, max_examples=80)
def test_the_share_of_changes_is_the_rate(kind: Any, rate: float, seed: int, j: int) -> None:
    text = " ".join(f"wordy{index}" for index in range(3000))
    # All words are in lower case, so that every word that is drawn for changes.
    more = {"styles": ("upper",)} if kind is LetterCase else {}
    _, change = definition_change(kind(rate=rate, **more), text, seed, j)
    n = change.total
    assert n >= 1500  # an exchanged word is not drawn for again
    # Six standard deviations: once in half a billion draws outside.
    assert abs(change.changed - n * rate) <= 6 * math.sqrt(n * rate * (1 - rate)) + 1


@given(st.floats(0, 1), SEEDS, NUMBERS)
@settings(deadline=None, max_examples=40)
def test_the_share_of_dropped_inputs_is_the_rate(rate: float, seed: int, j: int) -> None:
    n = 400
    task = Task(id="t", definition="d", positive_examples=(Example(input="x", output="y"),) * n)
    changed, (change,) = Perturbation(DropExampleInputs(rate=rate), seed).trace(task, j)
    dropped = [one.input == "" for one in changed.positive_examples]
    assert all(one.output == "y" for one in changed.positive_examples)
    assert sum(dropped) == change.changed
    assert abs(sum(dropped) - n * rate) <= 6 * math.sqrt(n * rate * (1 - rate)) + 1


@given(
    st.sampled_from([step for step in EVERYTHING if hasattr(step, "protect_labels")]),
    st.lists(st.sampled_from(["yes", "no", "Not Sure", "5", "C++", "mid-way"]), min_size=1).map(
        tuple
    ),
    SEEDS,
    NUMBERS,
)
@settings(deadline=None, max_examples=150)
def test_protected_labels_stay(step: Step, labels: tuple[str, ...], seed: int, j: int) -> None:
    spoken = ", ".join(f'answer "{label.upper()}" now' for label in labels)
    text = f"Judge the statement carefully. {spoken}; or (no) nothing at all, yes."
    task = make_task(definition=text).model_copy(update={"labels": labels})
    changed = apply(step.model_copy(update={"protect_labels": True}), task, j, seed)
    for label in set(labels):
        pattern = rf"(?<!\w){re.escape(label)}(?!\w)"
        before = re.findall(pattern, text, re.IGNORECASE)
        after = re.findall(pattern, changed.definition, re.IGNORECASE)
        assert not Counter(before) - Counter(after)


def test_labels_are_not_protected_unless_told_so() -> None:
    task = make_task(definition="yes no").model_copy(update={"labels": ("yes", "no")})
    assert {apply(DropWords(rate=0.9), task, j).definition for j in range(1, 60)} == {"yes", "no"}
    kept = DropWords(rate=0.9, protect_labels=True)
    assert {apply(kept, task, j).definition for j in range(1, 60)} == {"yes no"}


# --- What fits the context --------------------------------------------------------------------


@given(STEPS, st.integers(90, 400))
@settings(deadline=None, max_examples=80)
def test_every_form_of_what_can_be_planned_fits_the_context(step: Step, context: int) -> None:
    config = ScoreConfig(
        n_instances=2,
        n_perturbations=4,
        max_output_tokens=4,
        prompt=PromptConfig(n_positive_examples=3, n_negative_examples=2),
        perturbation=step,
    )
    builder = PromptBuilder(gpt2(), config.prompt, context)
    task = make_task(n_instances=2, n_positive=5, n_negative=3)
    try:
        plan = plan_task(task, config, builder)
    except InputError:  # too long even without examples, which is another test's matter
        return
    shown = [(one.n_positive_examples, one.n_negative_examples) for one in plan.originals]
    for pair in plan_pairs(plan, [(1, 2, 3, 4)] * 2, config, builder):
        text = gpt2().decode(list(pair.prompt))
        counted = text.count(" Positive Example "), text.count(" Negative Example ")
        assert counted == shown[int(pair.instance_id[1:])], "the same for every perturbation"
        assert len(pair.prompt) + len(pair.output) < context


def test_a_perturbed_prompt_that_never_fits_is_named() -> None:
    task = make_task(definition="one two three", n_positive=0, n_negative=0)
    config = ScoreConfig(
        max_output_tokens=4,
        perturbation=Paraphrase(
            texts={"one two three": ("many more words than before " * 9,) * 10}
        ),
    )
    bare = config.model_copy(update={"perturbation": DropWords()})
    length = len(
        plan_task(task, bare, PromptBuilder(gpt2(), config.prompt, 999)).originals[0].token_ids
    )
    with pytest.raises(InputError, match=r"a perturbed prompt has \d+ tokens without examples"):
        plan_task(task, config, PromptBuilder(gpt2(), config.prompt, length + 20))


# --- Their names and keys ---------------------------------------------------------------------

CONFIGS: TypeAdapter[Any] = TypeAdapter(PerturbationConfig)


def test_every_perturbation_is_listed_with_what_it_does() -> None:
    assert {step.name for step in EVERYTHING} | {"paraphrase"} == set(PERTURBATIONS)
    for name, kind in PERTURBATIONS.items():
        assert kind.model_fields["name"].default == name
        assert summary(PERTURBATIONS[name]).endswith(".")
        assert len(summary(PERTURBATIONS[name])) < 120


@pytest.mark.parametrize("step", EVERYTHING, ids=lambda step: step.name)
def test_a_configuration_survives_json(step: Step) -> None:
    config = ScoreConfig(perturbation=step)
    assert ScoreConfig.model_validate_json(config.model_dump_json()) == config


def test_words_are_dropped_where_no_name_is_given() -> None:
    assert CONFIGS.validate_python({"rate": 0.4}) == DropWords(rate=0.4)
    steps = {"name": "compose", "steps": [{"rate": 0.4}]}
    assert CONFIGS.validate_python(steps) == Compose(steps=(DropWords(rate=0.4),))


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"name": "drop_wrds"}, "unknown perturbation 'drop_wrds'; valid here: drop_words, mask_"),
        ({"name": 3}, "unknown perturbation 3; valid here: drop_words"),
        ({"rat": 1}, "unknown key rat; valid here: name, protect_labels, rate, targets"),
        ({"name": "typos", "rat": 1}, "unknown key rat; valid here: name, protect_labels, rate"),
        ({"name": "order_examples", "rate": 1}, "unknown key rate; valid here: kinds, name"),
        ({"name": "paraphrase", "endpoint": {"uri": ""}}, "unknown key uri; valid here: api_key"),
        ({"name": "compose", "steps": [{"name": "x"}]}, "unknown perturbation 'x'; valid here"),
        ({"name": "drop_words", "targets": ["input"]}, "'definition', 'example_inputs' or"),
        ({"name": "drop_words", "rate": 1}, "less than 1"),
        (
            {"name": "compose", "steps": [{"name": "typos"}, {"name": "resample_examples"}]},
            "resample_examples must precede all other steps",
        ),
    ],
)
def test_what_is_wrong_is_told_with_what_would_be_right(
    values: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        CONFIGS.validate_python(values)
    assert problem in str(caught.value)
