"""Sampled outputs and labels of the real server."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from engine.client import EngineClient
from engine.perturb import DropWords
from engine.pools.bundled import training_pool
from engine.process.engine_process import EngineProcess
from engine.prompts import PromptBuilder
from engine.prompts.prompt_config import PromptConfig
from engine.protocol.api import TaskScore, Usage
from engine.protocol.score_config import SamplingConfig, ScoreConfig
from engine.questions.label_question import LabelQuestion, LabelScore
from engine.questions.output_question import OutputQuestion, Sample
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


def samples_of(score: TaskScore) -> list[Sample]:
    rows = score.answers["output_disagreement"].rows
    return [Sample.model_validate(row) for row in rows]


def outputs(score: TaskScore) -> dict[tuple[str, int, int], str]:
    return {
        (each.instance_id, each.perturbation, each.sample): each.output
        for each in samples_of(score)
    }


def generated(server: EngineProcess) -> float:
    """Tokens that vLLM says it has generated since its start."""
    text = httpx.get(f"{server.url}/metrics", timeout=600).text
    lines = [line for line in text.splitlines() if line.startswith("vllm:generation_tokens_total")]
    return sum(float(line.split()[-1]) for line in lines)


def test_samples_of_a_real_model(server: EngineProcess, client: EngineClient) -> None:
    tasks = list(training_pool()[:2])
    before = generated(server)
    forwards = list(client.score(tasks, design(3)))
    said = sum((score.usage for score in forwards), Usage())
    # vLLM generates one token, which nobody asked for, with every pair.
    scored = said.pairs + said.pairs_rescored
    assert generated(server) - before == said.tokens_sampled + said.tokens_generated + scored
    # Pairs that samples go on from are filled up to whole blocks; that changes no number.
    unsampled = design(3).model_copy(update={"measure": "prompt_uncertainty"})
    (plain,) = client.score(tasks[:1], unsampled)
    for one, other in zip(plain.pairs, forwards[0].pairs, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
        assert one.is_greedy == other.is_greedy
    backwards = {score.task_id: score for score in client.score(tasks[::-1], design(2))}
    for task, score in zip(tasks, forwards, strict=True):
        found, samples = score.answers["output_disagreement"], samples_of(score)
        assert found == OutputQuestion().answer(samples, task)
        value = found.values["output_disagreement"]
        assert value is not None
        assert value > 0
        assert score.usage.samples == len(samples) == 3 * 3 * 3
        assert score.usage.tokens_sampled == sum(each.n_tokens for each in samples)
        # Another order, other company in the batch, fewer samples: the same draws. Batches round
        # differently, so that once in a while a draw that lies on an edge falls to the other side.
        fewer = outputs(backwards[score.task_id])
        assert len(fewer) == 3 * 3 * 2
        assert sum(outputs(score)[key] != output for key, output in fewer.items()) <= 1
        assert len(set(outputs(score).values())) > 3

    same = design(5, temperature=0.0, perturbation=DropWords(rate=0.0))
    for score in client.score(tasks, same):
        found = score.answers["output_disagreement"]
        assert found.values["output_disagreement"] is None, "no prompt differs"
        greedy = {reference.instance_id: reference.text for reference in score.references}
        assert outputs(score) == {(i, 0, 0): greedy[i] for i in greedy}
        assert score.prompt_uncertainty is None


def test_a_seeded_request_outlives_a_step_that_cuts_its_prompt(server: EngineProcess) -> None:
    """vLLM's engine for CPUs dies of it."""
    asked = {
        "prompt": [7 + number % 900 for number in range(2_100)],  # a step takes 2,048 tokens
        "seed": 5,
        "max_tokens": 3,
        "temperature": 1.0,
        "ignore_eos": True,
    }
    with httpx.Client(base_url=server.url, timeout=600) as http:
        asked["model"] = http.get("/v1/models").json()["data"][0]["id"]
        cut, cached = (http.post("/v1/completions", json=asked).json() for _ in range(2))
    # From the cache the prompt fits into one step. Nothing was drawn for its first part.
    assert cut["choices"][0]["text"] == cached["choices"][0]["text"]
    assert cut["usage"]["completion_tokens"] == 3


def test_labels_of_a_real_model(client: EngineClient, base: Reference) -> None:
    task = next(task for task in training_pool() if task.labels)
    config = design(1).model_copy(update={"measure": "label_bald", "n_instances": 2})
    (score,) = client.score([task], config)
    found = score.answers["label_bald"]
    scores = [LabelScore.model_validate(row) for row in found.rows]
    assert found == LabelQuestion().answer(scores, task)
    bald, entropy = found.values["label_bald"], found.values["label_entropy"]
    assert bald is not None
    assert entropy is not None
    assert entropy >= bald >= 0
    builder = PromptBuilder(base.tokenizer, config.prompt, 8192)
    for each in scores[: len(task.labels)]:
        prompt = builder.prompt(task, task.sample_instances(2, 3)[0], 8).token_ids
        expected = sum(base.token_logprobs(prompt, builder.completion(each.label)))
        assert each.logprob == pytest.approx(expected, abs=1e-3)
