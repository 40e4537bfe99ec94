"""Sampled outputs of the real server."""

from __future__ import annotations

from typing import Any

import pytest

from engine.api import TaskScore
from engine.client import EngineClient
from engine.config import PromptConfig, SamplingConfig, ScoreConfig
from engine.measures.disagreement import measure_disagreement
from engine.perturb import DropWords
from engine.pools.bundled import training_pool

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


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
        assert found.output_disagreement > 0
        assert score.usage.samples == len(found.samples) == 3 * 3 * 3
        assert score.usage.tokens_sampled == sum(each.n_tokens for each in found.samples)
        # Another order, other company in the batch, fewer samples: the same draws.
        fewer = outputs(backwards[score.task_id])
        assert fewer == {key: outputs(score)[key] for key in fewer}
        assert len(set(outputs(score).values())) > 3

    same = design(5, temperature=0.0, perturbation=DropWords(rate=0.0))
    for score in client.score(tasks, same):
        found = score.disagreement
        assert found is not None
        assert (found.output_disagreement, found.rouge_distance, found.standard_error) == (0, 0, 0)
        greedy = {reference.instance_id: reference.text for reference in score.references}
        assert outputs(score) == {(i, j, 0): greedy[i] for i in greedy for j in range(3)}
        assert score.prompt_uncertainty < 1e-4
