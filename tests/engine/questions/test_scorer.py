"""Scoring against an engine in memory: right, in order, and clear about what is wrong."""

from __future__ import annotations

import asyncio
import math
import random
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import EngineError, InputError
from engine.prompts import PromptBuilder
from engine.protocol.api import SkippedTask, TaskScore, Usage
from engine.protocol.score_config import ScoreConfig
from engine.questions import scorer as scoring
from engine.questions.backend import checked_logprobs
from engine.questions.pair_plan import Pair, plan_pairs, plan_task
from engine.questions.planners import PLANNERS
from engine.questions.scorer import TaskScorer
from engine.tasks import Task
from engine.variance.pair_grid import PairGrid
from tests.engine.examples import make_task
from tests.engine.questions.fake_backend import (
    FakeBackend,
    greedy_output,
    output_logprobs,
    random_latency,
)
from tests.engine.questions.in_memory import design, make_tasks, run, score_all


def plain_score(task: Task, config: ScoreConfig) -> dict[str, Any]:
    """The same numbers, one pair after the other, from the plan alone."""
    backend = FakeBackend()
    builder = PromptBuilder(backend.tokenizer, config.prompt, backend.max_model_len)
    plan = plan_task(task, config, builder)
    if config.reference == "gold":
        outputs = [builder.completion(instance.outputs[0]) for instance in plan.instances]
    else:
        outputs = [
            greedy_output(
                prompt.token_ids, config.max_output_tokens, builder.tokenizer.eos_token_id
            )
            for prompt in plan.originals
        ]
    pairs = plan_pairs(plan, outputs, config, builder)
    p: dict[tuple[str, int], float] = {}
    for pair in pairs:
        logprobs = output_logprobs(pair.prompt, pair.output)
        p[pair.instance_id, pair.perturbation] = math.exp(sum(logprobs) / len(logprobs))
    n, k = len(plan.instances), config.n_perturbations
    ids = [instance.id for instance in plan.instances]
    moves = [abs(p[i, j] - p[i, 0]) for i in ids for j in range(1, k + 1)]
    return {
        "p": p,
        "outputs": outputs,
        "prompt_uncertainty": sum(moves) / (n * k),
        "prediction_probability": sum(p[i, 0] for i in ids) / n,
        "perplexity": math.exp(-sum(math.log(p[i, 0]) for i in ids) / n),
    }


# --- Right ------------------------------------------------------------------------------------


@pytest.mark.parametrize("reference", ["generated", "gold"])
def test_scores_equal_a_plain_loop(reference: str) -> None:
    config = design(n=3, k=4, reference=reference)
    tasks = make_tasks(6)
    scores = score_all(tasks, config, FakeBackend(latency=random_latency(1)))
    assert [score.task_id for score in scores] == [task.id for task in tasks]
    for task, score in zip(tasks, scores, strict=True):
        expected = plain_score(task, config)
        found = {(pair.instance_id, pair.perturbation): pair.probability for pair in score.pairs}
        assert found == pytest.approx(expected["p"], abs=1e-12)
        for measure in ("prompt_uncertainty", "prediction_probability", "perplexity"):
            assert getattr(score, measure) == pytest.approx(expected[measure], rel=1e-12)
        assert [reference.token_ids for reference in score.references] == expected["outputs"]
        assert score.n_instances == min(3, len(task.instances))
        assert score.n_perturbations == 4
        assert score.weights_version == "v1"


def test_pairs_are_ordered_by_instance_and_perturbation() -> None:
    (score,) = score_all(
        [make_task(n_instances=12)], design(n=11, k=2), FakeBackend(latency=random_latency(2))
    )
    order = [reference.instance_id for reference in score.references]
    assert order == sorted(order, key=lambda name: int(name[1:])), "i10 comes behind i9"
    assert [(pair.instance_id, pair.perturbation) for pair in score.pairs] == [
        (instance, j) for instance in order for j in range(3)
    ]


def test_the_original_pair_comes_from_the_generation() -> None:
    backend = FakeBackend()
    task = make_task(n_instances=2)
    (score,) = score_all([task], design(n=2, k=2), backend)
    assert sorted(backend.calls) == sorted(
        f"colors/{instance}/j={j}" for instance in ("i0", "i1") for j in range(3)
    ), "nothing is computed twice"
    assert score.usage.pairs == 4
    assert score.usage.tokens_generated == sum(len(r.token_ids) for r in score.references)
    for pair, reference in zip(score.pairs[::3], score.references, strict=True):
        assert pair.perturbation == 0
        assert pair.n_tokens == len(reference.token_ids)


def test_gold_references_are_scored_and_never_generated() -> None:
    backend = FakeBackend()
    task = make_task(n_instances=2)
    (score,) = score_all([task], design(n=2, k=2, reference="gold"), backend)
    builder = PromptBuilder(backend.tokenizer, design().prompt, 4096)
    for reference in score.references:
        assert reference.token_ids == builder.completion("blue")
        assert reference.text == " blue"
        assert reference.finish_reason == "gold"
    assert score.usage.pairs == 6
    assert score.usage.tokens_generated == 0


def test_references_tell_how_the_output_ended_and_what_the_prompt_showed() -> None:
    task = make_task(n_instances=6)
    (score,) = score_all([task], design(n=6).model_copy(update={"max_output_tokens": 2}))
    eos = FakeBackend().tokenizer.eos_token_id
    assert {reference.finish_reason for reference in score.references} == {"stop", "length"}
    for reference in score.references:
        ended = reference.token_ids[-1] == eos
        assert reference.finish_reason == ("stop" if ended else "length")
        assert "<|endoftext|>" not in reference.text
        assert (reference.n_positive_examples, reference.n_negative_examples) == (2, 0)


def test_an_incomplete_design_scores_some_pairs_of_the_crossed_one() -> None:
    task, whole = make_task(n_instances=6), design(n=6, k=4)
    some = whole.model_copy(update={"instances_per_perturbation": 3})
    (crossed,), (score,) = score_all([task], whole), score_all([task], some)
    known = {(pair.instance_id, pair.perturbation): pair for pair in crossed.pairs}
    assert [known[pair.instance_id, pair.perturbation] for pair in score.pairs] == list(score.pairs)
    assert len(score.pairs) == 6 + 4 * 3
    assert score.usage.pairs == 4 * 3
    assert score.references == crossed.references
    moves = PairGrid.of(score.pairs).moves
    assert np.isfinite(moves).sum() == 4 * 3
    assert score.prompt_uncertainty == pytest.approx(np.nanmean(moves))


def test_usage_adds_up() -> None:
    config = design(n=2, k=3)
    backend = FakeBackend()
    (score,) = score_all([make_task(n_instances=2)], config, backend)
    builder = PromptBuilder(backend.tokenizer, config.prompt, backend.max_model_len)
    plan = plan_task(make_task(n_instances=2), config, builder)
    outputs = [reference.token_ids for reference in score.references]
    pairs = plan_pairs(plan, outputs, config, builder, originals=False)
    prompts = sum(len(prompt.token_ids) for prompt in plan.originals)
    assert score.usage == Usage(
        pairs=6,
        tokens_submitted=prompts + sum(len(pair.prompt) + len(pair.output) for pair in pairs),
        tokens_reused=6,
        tokens_reusable=score.usage.tokens_reusable,
        tokens_generated=sum(map(len, outputs)),
        pairs_rescored=0,
    )
    # Counted without any cleverness: the distinct prefixes are what must be computed.
    sequences = [prompt.token_ids for prompt in plan.originals]
    sequences += [pair.prompt + pair.output[:-1] for pair in pairs]
    prefixes = {sequence[: end + 1] for sequence in sequences for end in range(len(sequence))}
    assert score.usage.tokens_reusable == sum(map(len, sequences)) - len(prefixes)


@given(
    seed=st.integers(0, 2**20),
    n_tasks=st.integers(1, 6),
    max_in_flight=st.integers(1, 12),
    n=st.integers(1, 4),
    k=st.integers(1, 4),
)
@settings(deadline=None, max_examples=40)
def test_scores_depend_on_nothing_but_task_and_config(
    seed: int, n_tasks: int, max_in_flight: int, n: int, k: int
) -> None:
    rng = random.Random(seed)
    config = design(n=n, k=k, seed=seed % 3)
    pool = make_tasks(n_tasks)
    alone = {task.id: score_all([task], config, FakeBackend(max_in_flight=1))[0] for task in pool}
    mixed = rng.choices(pool, k=n_tasks) + pool  # any order, some tasks more than once
    rng.shuffle(mixed)
    backend = FakeBackend(max_in_flight=max_in_flight, latency=random_latency(seed))
    scores = score_all(mixed, config, backend)
    assert scores == [alone[task.id] for task in mixed]
    assert backend.peak <= max_in_flight


# --- Wrong -----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, math.nan, -math.inf, math.inf, 0.5])
@pytest.mark.parametrize("call", ["t1/i0/j=0", "t1/i0/j=1"])
def test_what_is_no_logprob_is_an_error_that_names_the_pair(value: float, call: str) -> None:
    backend = FakeBackend(faults={call: lambda: value})
    with pytest.raises(EngineError, match=rf"^pair {call}: the engine gave {value} as log-prob"):
        score_all(make_tasks(3), design(), backend)
    assert backend.pending == 0


def test_checked_logprobs_names_the_token_and_forgives_rounding() -> None:
    assert checked_logprobs([-1.5, 0.0, 1e-6], "t/i/j=1") == (-1.5, 0.0, 0.0)
    with pytest.raises(EngineError, match=r"pair t/i/j=1: .* of output token 2"):
        checked_logprobs([-1.0, -2.0, math.nan], "t/i/j=1")


def test_a_pair_that_does_not_fit_is_an_input_error_that_names_it() -> None:
    backend = FakeBackend()
    task = make_task(n_instances=1)
    wordy = task.instances[0].model_copy(update={"outputs": ("alpha bravo " * 200,)})
    task = task.model_copy(update={"instances": (wordy,)})
    backend.max_model_len = 400
    with pytest.raises(InputError) as caught:
        score_all([task], design(n=1, reference="gold"), backend)
    assert caught.value.record == "colors/i0/j=0"
    assert backend.calls == []


def test_check_finds_bad_input_before_any_work() -> None:
    backend = FakeBackend()
    scorer = TaskScorer(backend, design(), "v1")
    asyncio.run(scorer.check(make_tasks(3)))
    with pytest.raises(InputError, match="record empty"):
        asyncio.run(scorer.check([*make_tasks(3), make_task("empty", n_instances=0)]))
    assert backend.calls == []


def test_tasks_that_cannot_be_scored_are_skipped_if_asked_for() -> None:
    tasks = make_tasks(6)
    tasks[1] = make_task("t1", definition="much " * 500)  # does not fit the context
    second = tasks[3].sample_instances(2, 0)[1].id
    backend = FakeBackend(
        max_model_len=300,
        latency=random_latency(5),
        faults={f"t3/{second}/j=2": lambda: math.nan, "t4/i0/j=0": lambda: math.nan},
    )
    scorer = TaskScorer(backend, design(), "v1", skip_faulty=True)
    asyncio.run(scorer.check(tasks))
    found: list[TaskScore | SkippedTask] = []

    async def scenario() -> None:
        found.extend([one async for one in scorer.score(tasks)])

    run(scenario)
    assert backend.pending == 0
    assert [one.task_id for one in found] == [task.id for task in tasks]
    skipped = {one.task_id: one for one in found if isinstance(one, SkippedTask)}
    assert sorted(skipped) == ["t1", "t3", "t4"]
    assert skipped["t1"].field == "input"
    assert "tokens without examples" in skipped["t1"].reason
    assert f"pair t3/{second}/j=2" in skipped["t3"].reason
    assert "pair t4/i0/j=0" in skipped["t4"].reason
    alone = score_all([tasks[5]], design(), FakeBackend(max_model_len=300))
    assert found[5] == alone[0]


def test_usages_add_up_field_by_field() -> None:
    fields = list(Usage.model_fields)
    assert "tokens_reused" in fields
    one = Usage(**{name: number for number, name in enumerate(fields)})
    other = Usage(**dict.fromkeys(fields, 10))
    assert one + other == Usage(**{name: 10 + number for number, name in enumerate(fields)})


def test_no_tasks_no_scores() -> None:
    assert score_all([], design()) == []


def test_pair_names_are_what_records_carry() -> None:
    assert Pair("t", "i", 3, (1,), (2,)).name == "t/i/j=3"


def test_prompts_are_rendered_by_few_threads_and_no_longer_than_anybody_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[str] = []
    go_on = threading.Event()

    def plan(task: Task, *_: Any) -> Any:
        begun.append(task.id)
        go_on.wait(60)
        raise InputError("enough")

    monkeypatch.setattr(scoring, "plan_task", plan)
    scorer = TaskScorer(FakeBackend(), design(), "v1")

    async def scenario() -> None:
        tasks = [make_task("a"), make_task("b")]
        checks = [asyncio.create_task(scorer.check(tasks)) for _ in range(3 * PLANNERS)]
        while len(begun) < PLANNERS:
            await asyncio.sleep(0.001)
        for check in checks:
            check.cancel()
        await asyncio.gather(*checks, return_exceptions=True)
        go_on.set()

    asyncio.run(scenario())
    assert len(begun) == PLANNERS
