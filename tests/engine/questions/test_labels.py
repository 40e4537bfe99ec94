"""Labels scored under every prompt, and what is measured from them."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import numpy as np
import polars as pl
import pytest

from engine.errors import EngineError, InputError
from engine.measures.compute import compute_measures
from engine.measures.label_uncertainty import information_table
from engine.measures.measure_registry import INPUTS
from engine.measures.measure_testing import draw_table
from engine.prompts import PromptBuilder
from engine.protocol.api import QuestionAnswer, SkippedTask, TaskScore
from engine.protocol.score_config import ScoreConfig
from engine.questions.backend import Scored
from engine.questions.label_question import LabelQuestion, LabelScore
from engine.questions.pair_plan import Pair
from engine.questions.question import Asked, QuestionRow
from engine.questions.scorer import TaskScorer
from engine.tasks import Task
from tests.engine.examples import make_task
from tests.engine.questions.fake_backend import FakeBackend, output_logprobs, random_latency

LABELS = ("blue", "red", "green")


def design(**more: Any) -> ScoreConfig:
    values = {"n_instances": 2, "n_perturbations": 3, "max_output_tokens": 8}
    return ScoreConfig(measure="label_bald", **(values | more))


def labelled(task_id: str = "colors", labels: tuple[str, ...] = LABELS) -> Task:
    return make_task(task_id, n_instances=2).model_copy(update={"labels": labels})


def score_all(
    tasks: list[Task], config: ScoreConfig, backend: FakeBackend, **more: Any
) -> list[TaskScore | SkippedTask]:
    found: list[TaskScore | SkippedTask] = []

    async def main() -> None:
        async with asyncio.timeout(600):
            async for score in TaskScorer(backend, config, "v1", **more).score(tasks):
                found.append(score)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    assert backend.pending == 0
    return found


def answer_of(score: TaskScore) -> QuestionAnswer:
    assert list(score.answers) == ["label_bald"]
    return score.answers["label_bald"]


def labels_of(answer: QuestionAnswer) -> list[LabelScore]:
    return [LabelScore.model_validate(row) for row in answer.rows]


def measured(scores: list[QuestionRow]) -> QuestionAnswer:
    return LabelQuestion().answer(scores, labelled())


def test_every_label_is_scored_under_every_prompt_and_nothing_else_changes() -> None:
    backend = FakeBackend(latency=random_latency(3), max_in_flight=3)
    (score,) = score_all([labelled()], design(), backend)
    plain_config = design().model_copy(update={"measure": "prompt_uncertainty"})
    (plain,) = score_all([labelled()], plain_config, FakeBackend())
    assert isinstance(score, TaskScore)
    assert isinstance(plain, TaskScore)
    assert plain.answers == {}
    assert score.pairs == plain.pairs
    assert score.prompt_uncertainty == plain.prompt_uncertainty
    found = labels_of(answer_of(score))
    assert [(s.instance_id, s.perturbation, s.label) for s in found] == [
        (i, j, label) for i in ("i0", "i1") for j in range(4) for label in ("blue", "red", "green")
    ]
    assert score.usage.pairs == plain.usage.pairs + 2 * 4 * 3
    assert answer_of(score) == measured([*found])
    values, error = answer_of(score).values, answer_of(score).standard_error
    assert values["label_entropy"] is not None
    assert values["label_bald"] is not None
    assert error is not None
    assert values["label_entropy"] >= values["label_bald"] > 0
    assert error > 0
    assert backend.peak <= 3
    # The first prompt is known from the plan: its labels are scored as gold outputs would be.
    builder = PromptBuilder(backend.tokenizer, design().prompt, 4096)
    prompt = builder.prompt(labelled(), labelled().instances[0], 8).token_ids
    expected = [sum(output_logprobs(prompt, builder.completion(s))) for s in ("blue", "red")]
    assert [s.logprob for s in found[:2]] == pytest.approx(expected)
    assert math.fsum(s.probability for s in found[:3]) == pytest.approx(1)
    ratio = found[0].probability / found[1].probability
    assert ratio == pytest.approx(math.exp(expected[0] - expected[1]))


def test_the_server_and_data_frames_measure_the_same() -> None:
    table = draw_table("label_probabilities", 5, n_tasks=5)
    prompt = ["task_id", "instance_id", "perturbation"]
    shares = pl.col("probability") / pl.col("probability").sum().over(prompt)
    table = table.with_columns(shares)
    frames = compute_measures(table, "label_probabilities")
    for row in frames.iter_rows(named=True):
        rows = table.filter(pl.col("task_id") == row["task_id"]).drop("task_id")
        scores = [LabelScore(n_tokens=1, logprob=-1, **r) for r in rows.iter_rows(named=True)]
        found = measured([*scores])
        assert found.values["label_bald"] == pytest.approx(row["label_bald"])
        assert found.values["label_entropy"] == pytest.approx(row["label_entropy"])
        grid = LabelQuestion().grid(found.rows)
        assert grid.shape == (3, 4)
        assert grid.mean() == pytest.approx(row["label_bald"])
    assert set(INPUTS["label_probabilities"].columns) - {"task_id"} <= set(LabelScore.model_fields)


def test_labels_that_are_nearly_impossible_still_have_shares() -> None:
    pair = Pair("t", "i", 0, (1,), (2, 3))
    asked = [Asked(pair, label) for label in ("a", "b")]
    scored = [Scored((-4000.0, -n), 1, 0, rescored=False) for n in (0.0, math.log(3))]
    builder = PromptBuilder(FakeBackend().tokenizer, design().prompt, 4096)
    kept = LabelQuestion().keep(asked, scored, labelled(), builder)
    assert [row.model_dump()["probability"] for row in kept] == pytest.approx([0.75, 0.25])


def test_certain_labels_tell_nothing_or_all() -> None:
    def scores(*shares: float) -> list[QuestionRow]:
        return [
            LabelScore(
                instance_id="i", perturbation=j, label=name, n_tokens=1, logprob=-1, probability=q
            )
            for j, share in enumerate((0.5, *shares))
            for name, q in (("a", share), ("b", 1 - share))
        ]

    same, apart = measured(scores(1, 1, 1)).values, measured(scores(1, 0, 1, 0))
    assert same == {"label_bald": 0, "label_entropy": 0}
    assert apart.values["label_bald"] == pytest.approx(math.log(2))
    told = information_table(LabelQuestion().arrange(apart.rows))
    assert told == pytest.approx(np.full((1, 4), math.log(2)))
    two = measured(scores(1, 0))
    assert two.values["label_bald"] == pytest.approx(math.log(2))
    assert two.standard_error is None, "both diverge alike"
    single = measured(scores(0.5))
    assert (single.values["label_bald"], single.standard_error) == (None, None)
    with pytest.raises(ValueError, match="the same labels"):
        measured(scores(1, 0)[:-1])


def test_faults_are_named() -> None:
    name = "colors/i1/j=2/label='red'"
    with pytest.raises(EngineError, match=name):
        score_all([labelled()], design(), FakeBackend(faults={name: lambda: math.nan}))
    with pytest.raises(InputError, match="colors, field 'labels': has no labels"):
        asyncio.run(TaskScorer(FakeBackend(), design(), "v").check([labelled(labels=())]))
    long = labelled(labels=("blue", "alpha bravo " * 200))
    with pytest.raises(InputError, match="the pair has") as caught:
        score_all([long], design(), FakeBackend(max_model_len=300))
    assert caught.value.record == "colors/i0/j=0"
    tasks = [labelled("a"), labelled("b", ()), labelled("c")]
    scorer = TaskScorer(FakeBackend(), design(), "v", skip_faulty=True)
    alone = asyncio.run(TaskScorer(FakeBackend(), design(), "v").check([tasks[0]]))
    assert asyncio.run(scorer.check(tasks)) == 2 * alone
    found = score_all(tasks, design(), FakeBackend(), skip_faulty=True)
    assert [isinstance(one, SkippedTask) for one in found] == [False, True, False]
    assert isinstance(found[1], SkippedTask)
    assert found[1].field == "labels"
