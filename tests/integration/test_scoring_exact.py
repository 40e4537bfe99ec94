"""Scores of the real server against transformers."""

from __future__ import annotations

import random

import httpx
import pytest
import torch

from engine.client import EngineClient
from engine.errors import InputError
from engine.pools.bundled import training_pool
from engine.process.engine_process import EngineProcess
from engine.prompts import PromptBuilder
from engine.prompts.prompt_config import PromptConfig
from engine.protocol.api import TaskScore
from engine.protocol.completions import TokenPair
from engine.protocol.score_config import ScoreConfig
from engine.questions.pair_plan import Pair, plan_pairs, plan_task, reusable_tokens
from engine.tasks import Task
from tests.integration.reference import Reference

pytestmark = pytest.mark.integration

# Short prompts: transformers, pair by pair, is what these tests spend their time on.
CONFIG = ScoreConfig(
    n_instances=5,
    n_perturbations=5,
    max_output_tokens=8,
    seed=3,
    prompt=PromptConfig(n_positive_examples=0),
)


def planned_pairs(
    task: Task, score: TaskScore, config: ScoreConfig, reference: Reference
) -> list[Pair]:
    """The pairs of a score with their token ids, planned anew from the task."""
    builder = PromptBuilder(reference.tokenizer, config.prompt, 8192)
    outputs = [reference.token_ids for reference in score.references]
    return plan_pairs(plan_task(task, config, builder), outputs, config, builder)


def worst_difference(
    tasks: list[Task], scores: list[TaskScore], config: ScoreConfig, reference: Reference
) -> tuple[float, int]:
    """Largest difference in probability, and over how many pairs."""
    differences = []
    for task, score in zip(tasks, scores, strict=True):
        engine = {(pair.instance_id, pair.perturbation): pair for pair in score.pairs}
        for pair in planned_pairs(task, score, config, reference):
            expected = reference.probability(pair.prompt, pair.output)
            measured = engine[pair.instance_id, pair.perturbation].probability
            differences.append(abs(expected - measured))
    return max(differences), len(differences)


def test_probabilities_equal_those_of_transformers(client: EngineClient, base: Reference) -> None:
    tasks = random.Random(0).sample(list(training_pool()), 3)
    scores = list(client.score(tasks, CONFIG))
    worst, n_pairs = worst_difference(tasks, scores, CONFIG, base)
    print(f"{n_pairs} pairs, largest difference {worst:.2e}")
    assert n_pairs == 3 * 5 * 6
    assert worst < 1e-4


def test_references_are_what_transformers_generates(client: EngineClient, base: Reference) -> None:
    task = training_pool()[0]
    (score,) = client.score([task], CONFIG)
    builder = PromptBuilder(base.tokenizer, CONFIG.prompt, 8192)
    for original, reference in zip(
        plan_task(task, CONFIG, builder).originals, score.references, strict=True
    ):
        assert reference.n_prompt_tokens == len(original.token_ids)
        # Greedy: the likeliest token, but where two are equal within the engine's error.
        rows = base.rows(original.token_ids, reference.token_ids)
        likeliest = rows.topk(2, dim=1)
        tied = likeliest.values[:, 0] - likeliest.values[:, 1] < 1e-3
        chosen = torch.tensor(reference.token_ids)
        assert (likeliest.indices[:, 0] == chosen)[~tied].all()
        assert (likeliest.indices == chosen[:, None]).any(dim=1).all()
        assert tied.sum() <= 1
        ended = reference.token_ids[-1] == base.tokenizer.eos_token_id
        assert ended == (reference.finish_reason == "stop")


def test_gold_outputs_are_scored_as_the_trainer_would_write_them(
    client: EngineClient, base: Reference
) -> None:
    config = CONFIG.model_copy(update={"reference": "gold", "n_perturbations": 2})
    tasks = list(training_pool()[3:5])
    scores = list(client.score(tasks, config))
    worst, _ = worst_difference(tasks, scores, config, base)
    assert worst < 1e-4
    assert all(
        reference.token_ids[-1] == base.tokenizer.eos_token_id
        for score in scores
        for reference in score.references
    )


def test_the_same_pairs_twice_in_a_row_give_the_same_numbers(
    client: EngineClient, base: Reference
) -> None:
    """The second time the cache holds output tokens, whose rows vLLM would not compute."""
    rng = random.Random(1)
    pairs = [
        TokenPair(
            prompt_token_ids=tuple(rng.randrange(1000, 9000) for _ in range(n_prompt)),
            completion_token_ids=tuple(rng.randrange(1000, 9000) for _ in range(n_output)),
        )
        for n_prompt, n_output in ((1, 1), (3, 90), (31, 2), (32, 40), (33, 70), (64, 1), (90, 33))
    ]
    first = client.completion_logprobs(pairs, tokens=True)
    second = client.completion_logprobs(pairs, tokens=True)
    assert second.usage.pairs_rescored == 0
    assert second.usage.tokens_submitted == first.usage.tokens_submitted
    assert second.usage.tokens_reused == sum(len(pair.prompt_token_ids) - 1 for pair in pairs)
    for pair, one, two in zip(pairs, first.results, second.results, strict=True):
        # Other batches sum in another order: in float32, log-probabilities near -16 (these tokens
        # are random) move by a few 1e-5. A row that was not computed is off by 1 and more.
        assert one.token_logprobs == pytest.approx(two.token_logprobs, rel=1e-5)
        expected = base.token_logprobs(pair.prompt_token_ids, pair.completion_token_ids)
        assert one.token_logprobs == pytest.approx(expected, abs=1e-3)


def test_prefixes_are_computed_once_and_right(client: EngineClient, base: Reference) -> None:
    config = CONFIG.model_copy(
        update={"seed": 77, "n_instances": 6, "n_perturbations": 1, "prompt": PromptConfig()}
    )
    task = training_pool()[9]
    (score,) = client.score([task], config)
    assert score.usage.tokens_reused > 0.4 * score.usage.tokens_submitted
    worst, _ = worst_difference([task], [score], config, base)
    assert worst < 1e-4


def test_a_prefix_is_computed_once_to_its_last_token(
    server: EngineProcess, client: EngineClient, base: Reference
) -> None:
    """Also where it ends inside one of the cache's blocks, of 32 tokens."""
    if server.settings.device != "cpu":
        pytest.skip("elsewhere whole blocks are shared")
    rng = random.Random(5)

    def some(count: int) -> tuple[int, ...]:
        return tuple(rng.randrange(1000, 9000) for _ in range(count))

    pairs = [
        TokenPair(prompt_token_ids=prefix + some(40), completion_token_ids=some(3))
        for prefix in map(some, (5, 45, 63, 97))
        for _ in range(6)
    ]
    answer = client.completion_logprobs(pairs, tokens=True)
    sequences = [pair.prompt_token_ids + pair.completion_token_ids[:-1] for pair in pairs]
    assert answer.usage.tokens_reused == reusable_tokens(sequences)
    for pair, result in zip(pairs, answer.results, strict=True):
        expected = base.token_logprobs(pair.prompt_token_ids, pair.completion_token_ids)
        assert result.token_logprobs == pytest.approx(expected, abs=1e-3)


def test_faults_are_named(client: EngineClient) -> None:
    long = TokenPair(prompt_token_ids=(5,) * 9000, completion_token_ids=(6,))
    unknown = TokenPair(prompt_token_ids=(5, 10**6), completion_token_ids=(6,))
    good = TokenPair(prompt_token_ids=(5, 7), completion_token_ids=(6,))
    with pytest.raises(InputError, match=r"pairs\[1\].*9001 tokens"):
        client.completion_logprobs([good, long])
    with pytest.raises(InputError, match=r"pairs\[1\].*vocabulary"):
        client.completion_logprobs([good, unknown])
    task = Task(id="lonely", definition="Say something.", instances=())
    with pytest.raises(InputError, match=r"lonely.*at least one instance"):
        list(client.score([task], CONFIG))


@pytest.mark.parametrize("value", ["x", -1, 10**9, 2.5])
def test_marks_of_our_extensions_may_be_sent_by_anybody(
    server: EngineProcess, client: EngineClient, value: object
) -> None:
    body = {
        "prompt": list(range(1000, 1100)),
        "max_tokens": 1,
        "prompt_logprobs": 2,
        "vllm_xargs": {"jostle_first_row": value, "jostle_shared_tokens": value},
    }
    for prompt_logprobs in (2, 0):
        body["prompt_logprobs"] = prompt_logprobs
        answer = httpx.post(f"{server.url}/v1/completions", json=body, timeout=600)
        assert answer.status_code == 200
        assert len(answer.json()["choices"][0]["prompt_logprobs"]) == 100
    assert client.generate([list(range(1000, 1100))], max_tokens=1)
