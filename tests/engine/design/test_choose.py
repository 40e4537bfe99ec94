"""The chosen design is the best one that the budget pays for."""

import dataclasses
import math
from itertools import product

import numpy as np
import pytest

from engine.design.choose import Design, choose_design, design_for_pool
from engine.design.costs import TaskCost
from engine.errors import InputError
from engine.prompts import PromptBuilder
from engine.protocol.score_config import ScoreConfig
from engine.questions.incidence import incidence
from engine.variance.analysis import Analysis
from engine.variance.components import Components
from tests.engine.examples import make_task
from tests.engine.small_tokenizers import gpt2

COSTS = [TaskCost(prefix=200, tail=50), TaskCost(prefix=100, tail=30)]
EVEN = Components(instances=0.2, perturbations=0.2, interaction=0.2)


def choose(relative: Components, budget: float) -> Design:
    return choose_design(COSTS, relative, budget, max_instances=20, max_perturbations=20)


def test_pairs_that_buy_nothing_are_left_out() -> None:
    assert choose(EVEN, 20_000).instances_per_perturbation < choose(EVEN, 20_000).n_instances
    # Where a prefix costs much and a pair nothing, a column is filled.
    costs = [TaskCost(prefix=200, tail=0.01)]
    best = choose_design(costs, EVEN, 1_500, max_instances=8, max_perturbations=8)
    assert best.instances_per_perturbation == best.n_instances == 8


def test_a_design_becomes_a_config() -> None:
    crossed = choose(EVEN, 1e9)
    assert crossed.applied(ScoreConfig()).instances_per_perturbation is None
    some = choose(EVEN, 20_000)
    config = some.applied(ScoreConfig())
    assert config.n_prompts(50) == some.n_instances + (
        some.n_perturbations * some.instances_per_perturbation
    )
    assert f"that {some.instances_per_perturbation} of the instances meet each" in some.in_words()
    assert "each" not in crossed.in_words()


@pytest.mark.parametrize("budget", [1_000, 5_000, 20_000, 1e9])
def test_no_design_within_the_budget_has_a_smaller_error(budget: float) -> None:
    best = choose(EVEN, budget)
    assert best.tokens <= budget
    n, k, r = best.n_instances, best.n_perturbations, best.instances_per_perturbation
    assert best.tokens == pytest.approx(sum(cost.tokens(n, k, k * r) for cost in COSTS))
    for n, k in product(range(1, 21), range(1, 21)):
        for r in (r for r in range(1, n + 1) if r * k >= n):
            if sum(cost.tokens(n, k, k * r) for cost in COSTS) <= budget:
                columns = incidence("t", n, k, r, 0)
                table = np.full((n, k), np.nan)
                for j, column in enumerate(columns):
                    table[list(column), j] = 0.5
                assert math.sqrt(Analysis.of(table).variance(EVEN)) >= best.relative_error - 1e-12


def test_the_noisier_facet_gets_more() -> None:
    rows = choose(Components(instances=1.0, perturbations=0.01, interaction=0.1), 10_000)
    columns = choose(Components(instances=0.01, perturbations=1.0, interaction=0.1), 10_000)
    assert rows.n_instances > columns.n_instances
    assert rows.n_perturbations < columns.n_perturbations


def test_second_readings_are_paid_for() -> None:
    """Of two originals a task, with nothing reused of the first reading."""
    costs = [dataclasses.replace(cost, again=2) for cost in COSTS]
    assert costs[0].tokens(4, 3) == COSTS[0].tokens(4, 3) + 200 + 2 * 50
    assert costs[0].tokens(1, 3) == COSTS[0].tokens(1, 3) + 200 + 50
    best = choose_design(costs, EVEN, 5_000, max_instances=20, max_perturbations=20)
    n, k, r = best.n_instances, best.n_perturbations, best.instances_per_perturbation
    assert best.tokens == pytest.approx(sum(cost.tokens(n, k, k * r) for cost in costs))
    assert best.tokens <= 5_000
    assert best.relative_error > choose(EVEN, 5_000).relative_error


def test_a_budget_below_one_pair_per_task_is_refused() -> None:
    with pytest.raises(InputError, match="cost 760 tokens"):
        choose(EVEN, 700)


def test_the_design_of_a_pool_comes_from_its_prompts() -> None:
    tasks = [make_task(f"task-{index}", n_instances=6) for index in range(5)]
    config = ScoreConfig(max_output_tokens=4)
    builder = PromptBuilder(gpt2(), config.prompt, 1024)
    small, large = (design_for_pool(tasks, config, builder, size) for size in (8_000, 40_000))
    assert small.tokens <= 8_000 < large.tokens <= 40_000
    assert large.n_instances <= 6
    assert large.relative_error < small.relative_error
    with pytest.raises(InputError, match="no task"):
        design_for_pool([], config, builder, 1_000)
