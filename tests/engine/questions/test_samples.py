"""Sampled outputs: seeds, order, cost, cancellation, and what is measured from them."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import EngineError, InputError
from engine.prompts import PromptBuilder
from engine.protocol.api import QuestionAnswer, TaskScore, Usage
from engine.protocol.score_config import SamplingConfig, ScoreConfig
from engine.questions.output_question import OutputQuestion, Sample, find_label, sample_seed
from engine.questions.pair_plan import plan_pairs, plan_task
from engine.questions.scorer import TaskScorer
from tests.engine.examples import make_task
from tests.engine.questions.fake_backend import FakeBackend, random_latency
from tests.engine.questions.in_memory import score_all


def design(n: int = 2, k: int = 2, m: int = 3, **more: Any) -> ScoreConfig:
    sampling = SamplingConfig(n_samples=m, temperature=more.pop("temperature", 1.0))
    return ScoreConfig(
        n_instances=n,
        n_perturbations=k,
        max_output_tokens=8,
        measure="output_disagreement",
        sampling=sampling,
        **more,
    )


def answer_of(score: TaskScore) -> QuestionAnswer:
    assert list(score.answers) == ["output_disagreement"]
    return score.answers["output_disagreement"]


def samples_of(score: TaskScore) -> list[Sample]:
    return [Sample.model_validate(row) for row in answer_of(score).rows]


def test_every_prompt_is_sampled_and_nothing_else_changes() -> None:
    task = make_task(n_instances=2)
    backend = FakeBackend(latency=random_latency(1))
    (score,) = score_all([task], design(), backend)
    (plain,) = score_all([task], ScoreConfig(n_instances=2, n_perturbations=2, max_output_tokens=8))
    assert plain.answers == {}
    kept = ("prompt_uncertainty", "prediction_probability", "perplexity", "pairs", "references")
    assert all(getattr(score, name) == getattr(plain, name) for name in kept)
    names = [(s.instance_id, s.perturbation, s.sample) for s in samples_of(score)]
    assert names == [(i, j, m) for i in ("i0", "i1") for j in range(3) for m in range(3)]
    again = OutputQuestion().answer(samples_of(score), task)
    assert again == answer_of(score)
    value = again.values["output_disagreement"]
    assert value is not None
    assert 0 < value <= 1
    assert all(len(groups) == 1 for groups in backend.groups.values()), "one replica per task"


def test_the_cost_is_told() -> None:
    task, config = make_task(n_instances=2), design()
    backend = FakeBackend()
    (score,) = score_all([task], config, backend)
    (plain,) = score_all([task], ScoreConfig(n_instances=2, n_perturbations=2, max_output_tokens=8))
    prompts = [planned.prompt for planned in backend.drawn.values()]
    samples = samples_of(score)
    assert score.usage.samples == len(samples) == len(prompts) == 18
    assert score.usage.tokens_sampled == sum(sample.n_tokens for sample in samples)
    assert score.usage.tokens_submitted == plain.usage.tokens_submitted + sum(map(len, prompts))
    assert score.usage.tokens_reused == plain.usage.tokens_reused + 2 * 18
    assert score.usage.tokens_generated == plain.usage.tokens_generated
    # Every sampled prompt has been submitted before, by its pair.
    sampled = score.usage.tokens_reusable - plain.usage.tokens_reusable
    assert sampled == sum(map(len, prompts))
    unsampled = config.model_copy(update={"measure": "prompt_uncertainty"})
    with_samples, without = (
        asyncio.run(TaskScorer(backend, each, "v").check([task])) for each in (config, unsampled)
    )
    assert with_samples == 4 * without


def test_samples_reach_the_engine_behind_the_pairs_of_their_prompt() -> None:
    backend = FakeBackend(max_in_flight=4, latency=random_latency(4))
    score_all([make_task(n_instances=2)], design(), backend)
    perturbed = [name for name in backend.calls if "j=0" not in name]
    for j in (1, 2):
        places = [at for at, name in enumerate(perturbed) if f"j={j}" in name]
        assert places == list(range(places[0], places[0] + 8)), "no prefix comes up again"
        assert ["sample" in perturbed[at] for at in places] == [False] * 2 + [True] * 6
    assert backend.continued == {name for name in perturbed if "sample" not in name}


def test_equally_many_or_fewer_samples_have_the_same_seeds() -> None:
    task = make_task(n_instances=3)
    drawn = []
    for m in (2, 4):
        backend = FakeBackend()
        score_all([task], design(n=3, m=m), backend)
        drawn.append(backend.drawn)
    assert all(drawn[1][name] == planned for name, planned in drawn[0].items())
    seeds = {planned.seed for planned in drawn[1].values()}
    assert len(seeds) == 3 * 3 * 4
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert sample_seed(0, "t", "i", 1, 2) != sample_seed(0, "t", "i", 12, 0)
    assert sample_seed(0, "t", "i", 1, 2) != sample_seed(1, "t", "i", 1, 2)


@given(seed=st.integers(0, 2**20), max_in_flight=st.integers(1, 9), m=st.integers(1, 3))
@settings(deadline=None, max_examples=20)
def test_results_depend_on_neither_order_nor_concurrency(
    seed: int, max_in_flight: int, m: int
) -> None:
    config = design(m=m, seed=seed % 3)
    pool = [make_task(f"t{index}", n_instances=1 + index) for index in range(3)]
    alone = {task.id: score_all([task], config, FakeBackend(max_in_flight=1))[0] for task in pool}
    random.Random(seed).shuffle(pool)
    backend = FakeBackend(max_in_flight=max_in_flight, latency=random_latency(seed))
    assert score_all(pool, config, backend) == [alone[task.id] for task in pool]
    assert backend.peak <= max_in_flight


def test_at_temperature_0_there_is_one_sample_and_it_is_the_reference() -> None:
    (score,) = score_all([make_task(n_instances=2)], design(m=5, temperature=0.0))
    originals = [s for s in samples_of(score) if s.perturbation == 0]
    assert [s.output for s in originals] == [r.text for r in score.references]
    assert len(samples_of(score)) == 6


def test_gold_references_are_sampled_too() -> None:
    (score,) = score_all([make_task(n_instances=2)], design(reference="gold"))
    assert {s.perturbation for s in samples_of(score)} == {0, 1, 2}


def test_a_reader_who_leaves_cancels_the_samples() -> None:
    backend = FakeBackend(max_in_flight=4, held=lambda name: "sample=1" in name)

    async def main() -> None:
        scorer = TaskScorer(backend, design(), "v1")
        async with aclosing(scorer.score([make_task()])) as scores:
            reader = asyncio.ensure_future(anext(scores))
            while backend.pending < 4:
                await asyncio.sleep(0.001)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    assert backend.pending == 0
    assert backend.peak == 4
    assert len(backend.cancelled) == 4


def test_what_goes_wrong_names_the_sample() -> None:
    name = "colors/i1/j=2/sample=1"
    backend = FakeBackend(faults={name: lambda: None})
    with pytest.raises(EngineError, match=name):
        score_all([make_task(n_instances=2)], design(), backend)
    builder = PromptBuilder(backend.tokenizer, design().prompt, 4096)
    plan = plan_task(make_task(n_instances=1), design(), builder)
    pairs = plan_pairs(plan, [(1, 2)], design(), builder)
    longest = max(len(pair.prompt) for pair in pairs)
    question = OutputQuestion()
    tight, wide = (
        PromptBuilder(backend.tokenizer, design().prompt, longest + more) for more in (7, 8)
    )
    assert question.plan(plan, pairs, design(), wide)
    with pytest.raises(InputError, match=f"the prompt has {longest} tokens") as caught:
        question.plan(plan, pairs, design(), tight)
    assert caught.value.record is not None
    assert caught.value.record.startswith("colors/i0/j=")
    assert caught.value.field == "max_output_tokens"


def test_labels_are_found_as_models_write_them() -> None:
    labels = ("Yes", "No", " no ")
    assert find_label(" Yes\n", labels) == "Yes"
    assert find_label("yes", labels) == "Yes"
    assert find_label("NO", labels) == "No"
    assert find_label("Yes, it is", labels) is None
    assert find_label("yes", ()) is None
    task = make_task(n_instances=1).model_copy(update={"labels": ("blue", "red")})
    (score,) = score_all([task], design(n=1))
    assert answer_of(score).values["output_label_entropy"] is not None


def test_usage_of_samples_adds_up() -> None:
    assert Usage(samples=2, tokens_sampled=5) + Usage(samples=1) == Usage(
        samples=3, tokens_sampled=5
    )


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"n_samples": 0}, "n_samples"),
        ({"n_samples": 65}, "n_samples"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": 0.001}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_k": 3}, "top_k"),
    ],
)
def test_settings_have_bounds(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        SamplingConfig.model_validate(settings)
