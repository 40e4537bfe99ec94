"""The pair plan: what is scored, in which order, and what is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InputError
from engine.perturb import DropWords, Perturbation, Shown
from engine.prompts import PromptBuilder
from engine.prompts.prompt_config import PromptConfig
from engine.protocol.score_config import ScoreConfig
from engine.questions.pair_plan import Pair, check_length, missing_gold, plan_pairs, plan_task
from engine.tasks import Task
from tests.engine.examples import make_task
from tests.engine.small_tokenizers import chat, gpt2


def make_builder(config: ScoreConfig, context: int = 4096, tokenizer: Any = None) -> PromptBuilder:
    return PromptBuilder(tokenizer or gpt2(), config.prompt, context)


def design(n: int = 3, k: int = 4, rate: float = 0.2, **more: Any) -> ScoreConfig:
    return ScoreConfig(
        n_instances=n,
        n_perturbations=k,
        max_output_tokens=8,
        perturbation=DropWords(rate=rate),
        **more,
    )


def numbers(pairs: Sequence[Pair]) -> list[tuple[int, str]]:
    return [(pair.perturbation, pair.instance_id) for pair in pairs]


def plan_all(
    task: Task, config: ScoreConfig, builder: PromptBuilder, *, originals: bool = True
) -> list[Pair]:
    plan = plan_task(task, config, builder)
    outputs = [(index + 1,) for index in range(len(plan.instances))]
    return plan_pairs(plan, outputs, config, builder, originals=originals)


@pytest.mark.parametrize("originals", [True, False])
def test_pairs_come_perturbation_by_perturbation(originals: bool) -> None:
    config = design(n=3, k=4)
    pairs = plan_all(make_task(n_instances=3), config, make_builder(config), originals=originals)
    first = 0 if originals else 1
    assert numbers(pairs) == [(j, f"i{i}") for j in range(first, 5) for i in range(3)]
    assert [pair.output for pair in pairs] == [(1,), (2,), (3,)] * (5 - first)


def test_further_perturbations_go_on_where_an_earlier_design_ended() -> None:
    task, whole = make_task(n_instances=3), design(n=3, k=5)
    later = whole.model_copy(update={"first_perturbation": 4, "n_perturbations": 2})
    expected = [
        pair for pair in plan_all(task, whole, make_builder(whole)) if pair.perturbation > 3
    ]
    assert plan_all(task, later, make_builder(later), originals=False) == expected


def test_an_incomplete_design_scores_some_pairs_of_the_crossed_one() -> None:
    task, whole = make_task(n_instances=6), design(n=6, k=4)
    some = whole.model_copy(update={"instances_per_perturbation": 3})
    builder = make_builder(whole)
    found = plan_all(task, some, builder)
    every = plan_all(task, whole, builder)
    assert set(found) < set(every)
    assert found == [pair for pair in every if pair in found]
    assert len(found) == some.n_prompts(6) == 6 + 4 * 3
    used = Counter(pair.instance_id for pair in found if pair.perturbation)
    assert set(used.values()) == {2}
    # A task with fewer instances is measured with all it has.
    assert some.n_prompts(2) == 2 + 4 * 2 == len(plan_all(make_task(n_instances=2), some, builder))


def test_prompts_are_those_of_the_perturbed_task() -> None:
    config = design(n=2, k=3, rate=0.5)
    for tokenizer in (gpt2(), chat()):
        builder = make_builder(config, tokenizer=tokenizer)
        task = make_task(n_instances=2)
        perturbation = Perturbation(config.perturbation, config.seed)
        for pair in plan_all(task, config, builder):
            changed = perturbation.apply(task, pair.perturbation, Shown(2, 0))
            instance = next(i for i in task.instances if i.id == pair.instance_id)
            assert tokenizer.decode(list(pair.prompt)) == builder.text(changed, instance)


def test_pairs_of_one_perturbation_share_all_but_the_end() -> None:
    config = design(n=3, k=5)
    builder = make_builder(config)
    (mark,) = builder.encode(["Now complete the following example -"])
    for j in range(6):
        prompts = [
            pair.prompt for pair in plan_all(make_task(), config, builder) if pair.perturbation == j
        ]
        shared = {prompt[: _find(prompt, mark) + len(mark)] for prompt in prompts}
        assert len(shared) == 1
        assert len(next(iter(shared))) > len(mark)


def _find(ids: tuple[int, ...], part: tuple[int, ...]) -> int:
    return next(i for i in range(len(ids)) if ids[i : i + len(part)] == part)


def test_the_sample_of_instances_is_the_seeds() -> None:
    task = make_task(n_instances=40)
    config = design(n=5, seed=3)
    plan = plan_task(task, config, make_builder(config))
    assert plan.instances == task.sample_instances(5, 3)


def test_a_shortened_prompt_does_not_regain_an_example() -> None:
    task = make_task(definition="Say the color of the thing " * 12, n_positive=2)
    roomy = design(n=3, k=10, rate=0.9)
    longest = max(
        len(pair.prompt)
        for pair in plan_all(task, roomy, make_builder(roomy))
        if pair.perturbation == 0
    )
    # One token too few for both examples; the perturbed prompts have room for many more.
    builder = make_builder(roomy, longest + roomy.max_output_tokens)
    plan = plan_task(task, roomy, builder)
    shown = [original.n_positive_examples for original in plan.originals]
    assert 1 in shown
    for pair in plan_all(task, roomy, builder):
        text = builder.tokenizer.decode(list(pair.prompt))
        kept = shown[[i.id for i in plan.instances].index(pair.instance_id)]
        assert text.count("Positive Example") == kept
        if pair.perturbation:
            assert len(pair.prompt) < longest - 20


@given(context=st.integers(60, 400), rate=st.sampled_from([0.0, 0.2, 0.6]))
@settings(deadline=None, max_examples=60)
def test_what_can_be_planned_can_be_scored(context: int, rate: float) -> None:
    """An output of the greatest length allowed fits behind every prompt of the plan."""
    config = design(n=3, k=3, rate=rate, prompt=PromptConfig(n_negative_examples=1))
    builder = make_builder(config, context)
    try:
        plan = plan_task(make_task(), config, builder)
    except InputError:  # too long even without examples, which is another test's matter
        return
    longest = tuple(range(config.max_output_tokens))
    for pair in plan_pairs(plan, [longest] * 3, config, builder):
        assert len(pair.prompt) + len(pair.output) < context


def test_a_pair_longer_than_the_context_is_named() -> None:
    config = design(n=2, k=1)
    builder = make_builder(config, 300)
    plan = plan_task(make_task(n_instances=2), config, builder)
    fits = 300 - 1 - len(plan.originals[1].token_ids)
    plan_pairs(plan, [(5,), (5,) * fits], config, builder)
    with pytest.raises(InputError, match="the pair has 300 tokens, the model's context") as caught:
        plan_pairs(plan, [(5,), (5,) * (fits + 1)], config, builder)
    assert caught.value.record == "colors/i1/j=0"


def test_check_length_keeps_one_position_free() -> None:
    pair = Pair("t", "i", 2, (1, 2, 3), (4, 5))
    check_length(pair, 6)
    with pytest.raises(InputError, match=r"^record t/i/j=2: the pair has 5 tokens"):
        check_length(pair, 5)


def test_gold_needs_gold_outputs() -> None:
    config = design(n=3, reference="gold")
    task = make_task()
    plan_task(task, config, make_builder(config))
    bare = task.instances[1].model_copy(update={"outputs": ()})
    task = task.model_copy(update={"instances": (task.instances[0], bare)})
    with pytest.raises(InputError, match="has no gold output to score") as caught:
        plan_task(task, config, make_builder(config))
    assert (caught.value.record, caught.value.field) == ("colors/i1", "outputs")
    generated = design(n=3)
    assert len(plan_task(task, generated, make_builder(generated)).instances) == 2


@pytest.mark.parametrize("strip", [False, True])
def test_an_end_token_is_a_gold_output_unless_it_is_stripped(strip: bool) -> None:
    config = design(n=1, reference="gold", prompt=PromptConfig(strip_end_tokens=strip))
    (one,) = make_task(n_instances=1).instances
    ended = one.model_copy(update={"outputs": (" </s>",)})
    fault = missing_gold(make_task().model_copy(update={"instances": (ended,)}), config)
    assert (fault is not None) == strip


def test_a_task_without_instances_is_refused() -> None:
    config = design()
    with pytest.raises(InputError, match="at least one instance") as caught:
        plan_task(make_task(n_instances=0), config, make_builder(config))
    assert (caught.value.record, caught.value.field) == ("colors", "instances")
