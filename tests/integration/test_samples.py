"""Sampled outputs and labels of the real server."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
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
        # Tokens of the reference that samples share are not generated.
        assert 0 < score.usage.tokens_sampled <= sum(each.n_tokens for each in samples)
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


def test_samples_that_follow_the_reference_are_those_of_the_model(client: EngineClient) -> None:
    """At a temperature beside 1 every sample is generated, from the same distribution."""
    # Its answers are likely enough: 0.6 to 1.9 of 4 tokens are followed under most prompts.
    task = next(task for task in training_pool() if task.id == "iso_date")
    found: list[dict[tuple[str, int], Counter[str]]] = []
    sampled = []
    for temperature in (1.0, 0.9999):
        config = design(64, temperature=temperature).model_copy(update={"max_output_tokens": 4})
        (score,) = client.score([task], config)
        counts: dict[tuple[str, int], Counter[str]] = defaultdict(Counter)
        for each in samples_of(score):
            counts[each.instance_id, each.perturbation][each.output] += 1
        found.append(counts)
        sampled.append(score.usage.tokens_sampled)
    assert sampled[0] < 0.95 * sampled[1], "little was followed; nothing is shown"
    chi_squared, freedom = 0.0, 0
    for prompt, drafted in found[0].items():
        generated = found[1][prompt]
        common = [text for text, n in (drafted + generated).items() if n >= 10]
        rest = [sum(counts.values()) for counts in (drafted, generated)]
        for text in common:
            one, other = drafted[text], generated[text]
            chi_squared += (one - other) ** 2 / (one + other)
            rest = [rest[0] - one, rest[1] - other]
        chi_squared += (rest[0] - rest[1]) ** 2 / max(1, sum(rest))
        freedom += len(common)
    assert chi_squared < freedom + 4 * math.sqrt(2 * freedom)


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
