"""Sampled outputs and labels of the real server."""

from __future__ import annotations

from typing import Any

import pytest

from engine.client import EngineClient
from engine.measures.disagreement import measure_disagreement
from engine.measures.label_uncertainty import measure_labels
from engine.perturb import DropWords
from engine.pools.bundled import training_pool
from engine.prompts import PromptBuilder
from engine.protocol.api import TaskScore
from engine.protocol.score_config import PromptConfig, SamplingConfig, ScoreConfig
from tests.integration.reference import Reference

pytestmark = pytest.mark.integration


def design(m: int, **more: Any) -> ScoreConfig:
    return ScoreConfig(
        n_instances=3,
        n_perturbations=2,
        max_output_tokens=8,
        seed=3,
        prompt=PromptConfig(n_positive_examples=1),
        measure="output_disagreement",
        sampling=SamplingConfig(n_samples=m, temperature=more.pop("temperature", 1.0)),
        **more,
    )


def outputs(score: TaskScore) -> dict[tuple[str, int, int], str]:
    assert score.disagreement is not None
    return {
        (each.instance_id, each.perturbation, each.sample): each.output
        for each in score.disagreement.samples
    }


def test_samples_of_a_real_model(client: EngineClient) -> None:
    tasks = list(training_pool()[:2])
    forwards = list(client.score(tasks, design(3)))
    backwards = {score.task_id: score for score in client.score(tasks[::-1], design(2))}
    for score in forwards:
        found = score.disagreement
        assert found is not None
        assert found == measure_disagreement(
            found.samples, labelled=found.label_entropy is not None
        )
        assert found.output_disagreement is not None
        assert found.output_disagreement > 0
        assert score.usage.samples == len(found.samples) == 3 * 3 * 3
        assert score.usage.tokens_sampled == sum(each.n_tokens for each in found.samples)
        # Another order, other company in the batch, fewer samples: the same draws. Batches round
        # differently, so that once in a while a draw that lies on an edge falls to the other side.
        fewer = outputs(backwards[score.task_id])
        assert len(fewer) == 3 * 3 * 2
        assert sum(outputs(score)[key] != output for key, output in fewer.items()) <= 1
        assert len(set(outputs(score).values())) > 3

    same = design(5, temperature=0.0, perturbation=DropWords(rate=0.0))
    for score in client.score(tasks, same):
        found = score.disagreement
        assert found is not None
        assert found.output_disagreement is None, "no prompt differs"
        greedy = {reference.instance_id: reference.text for reference in score.references}
        assert outputs(score) == {(i, 0, 0): greedy[i] for i in greedy}
        assert score.prompt_uncertainty is None


def test_labels_of_a_real_model(client: EngineClient, base: Reference) -> None:
    task = next(task for task in training_pool() if task.labels)
    config = design(1).model_copy(update={"measure": "label_bald", "n_instances": 2})
    (score,) = client.score([task], config)
    found = score.labels
    assert found is not None
    assert found == measure_labels(found.scores)
    assert found.label_entropy is not None
    assert found.label_bald is not None
    assert found.label_entropy >= found.label_bald >= 0
    builder = PromptBuilder(base.tokenizer, config.prompt, 8192)
    for each in found.scores[: len(task.labels)]:
        prompt = builder.prompt(task, task.sample_instances(2, 3)[0], 8).token_ids
        expected = sum(base.token_logprobs(prompt, builder.completion(each.label)))
        assert each.logprob == pytest.approx(expected, abs=1e-3)
