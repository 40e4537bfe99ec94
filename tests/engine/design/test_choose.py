"""The chosen design is the best one that the budget pays for."""

import pytest

from engine.design.choose import Design, choose_design
from engine.design.components import Components
from engine.design.costs import TaskCost
from engine.errors import InputError

COSTS = [TaskCost(prefix=200, tail=50), TaskCost(prefix=100, tail=30)]
EVEN = Components(instances=0.2, perturbations=0.2, interaction=0.2)


def choose(relative: Components, budget: float) -> Design:
    return choose_design(COSTS, relative, budget, max_instances=20, max_perturbations=20)


@pytest.mark.parametrize("budget", [1_000, 5_000, 20_000, 1e9])
def test_no_design_within_the_budget_has_a_smaller_error(budget: float) -> None:
    best = choose(EVEN, budget)
    assert best.tokens <= budget
    assert best.tokens == sum(c.tokens(best.n_instances, best.n_perturbations) for c in COSTS)
    for n in range(1, 21):
        for k in range(1, 21):
            if sum(cost.tokens(n, k) for cost in COSTS) <= budget:
                assert EVEN.standard_error(n, k) >= best.relative_error


def test_the_noisier_facet_gets_more() -> None:
    rows = choose(Components(instances=1.0, perturbations=0.01, interaction=0.1), 10_000)
    columns = choose(Components(instances=0.01, perturbations=1.0, interaction=0.1), 10_000)
    assert rows.n_instances > columns.n_instances
    assert rows.n_perturbations < columns.n_perturbations


def test_a_budget_below_one_pair_per_task_is_refused() -> None:
    with pytest.raises(InputError, match="cost 760 tokens"):
        choose(EVEN, 700)
