"""Scores of the real server follow from task, design and weights alone, whatever else goes on."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.client import EngineClient
from engine.pools.bundled import training_pool
from engine.process.engine_process import EngineProcess
from engine.prompts.prompt_config import PromptConfig
from engine.protocol.api import TaskScore
from engine.protocol.completions import TokenPair
from engine.protocol.score_config import ScoreConfig
from engine.tasks import Task

pytestmark = pytest.mark.integration

CONFIG = ScoreConfig(
    n_instances=2,
    n_perturbations=2,
    max_output_tokens=6,
    prompt=PromptConfig(n_positive_examples=1),
)

# What the first, undisturbed request said of a task under a seed.
_first: dict[tuple[str, int], TaskScore] = {}


def undisturbed(client: EngineClient, task: Task, config: ScoreConfig) -> TaskScore:
    """The score of a task that is asked for alone, once."""
    key = (task.id, config.seed)
    if key not in _first:
        (_first[key],) = client.score([task], config)
    return _first[key]


def assert_same(score: TaskScore, expected: TaskScore) -> None:
    assert score.task_id == expected.task_id
    assert score.references == expected.references
    assert score.prompt_uncertainty == pytest.approx(expected.prompt_uncertainty, abs=1e-5)
    assert score.prediction_probability == pytest.approx(expected.prediction_probability, abs=1e-5)
    for pair, other in zip(score.pairs, expected.pairs, strict=True):
        assert (pair.instance_id, pair.perturbation) == (other.instance_id, other.perturbation)
        assert pair.probability == pytest.approx(other.probability, abs=1e-5)


@given(
    chosen=st.lists(st.integers(0, 55), min_size=2, max_size=4, unique=True),
    seed=st.integers(0, 1),
    order=st.randoms(use_true_random=False),
    n_clients=st.integers(1, 3),
)
@settings(
    deadline=None,
    max_examples=6,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_scores_depend_on_nothing_but_task_design_and_weights(
    server: EngineProcess,
    client: EngineClient,
    chosen: list[int],
    seed: int,
    order: random.Random,
    n_clients: int,
) -> None:
    """Any order, repeats, several clients at once, any state of the cache."""
    config = CONFIG.model_copy(update={"seed": seed})
    pool = training_pool()
    tasks = [pool[index] for index in chosen]
    expected = {task.id: undisturbed(client, task, config) for task in tasks}

    def ask(shuffled: list[Task]) -> list[TaskScore]:
        with EngineClient(server.url, tasks_per_request=1 + order.randrange(3)) as own:
            return list(own.score(shuffled, config))

    orders = [order.sample(tasks, len(tasks)) for _ in range(n_clients)]
    with ThreadPoolExecutor(n_clients) as pool_of_clients:
        for shuffled, scores in zip(orders, pool_of_clients.map(ask, orders), strict=True):
            assert [score.task_id for score in scores] == [task.id for task in shuffled]
            for score in scores:
                assert_same(score, expected[score.task_id])


@given(order=st.randoms(use_true_random=False))
@settings(
    deadline=None,
    max_examples=4,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_repeated_and_shuffled_pairs_give_the_same_numbers(
    client: EngineClient, order: random.Random
) -> None:
    """Duplicates within one request run side by side, and find each other's blocks cached."""
    stem = tuple(order.randrange(1000, 9000) for _ in range(70))
    distinct = [
        TokenPair(
            prompt_token_ids=stem[: order.randrange(1, 70)],
            completion_token_ids=tuple(
                order.randrange(1000, 9000) for _ in range(order.randrange(1, 50))
            ),
        )
        for _ in range(6)
    ]
    alone = [client.completion_logprobs([pair], tokens=True).results[0] for pair in distinct]
    which = order.choices(range(len(distinct)), k=18)
    together = client.completion_logprobs([distinct[index] for index in which], tokens=True).results
    for index, result in zip(which, together, strict=True):
        assert result.token_logprobs == pytest.approx(alone[index].token_logprobs, rel=1e-5)
