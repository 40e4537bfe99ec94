"""The race: its rule by brute force, its units, its budget, and that it beats equal shares."""

from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.design.border import distance, doubt, expected_doubt, judge
from engine.design.components import Moves
from engine.design.costs import TaskCost
from engine.design.entries import Extension, RaceConfig, Runner
from engine.design.extensions import Limits, options
from engine.design.measurement import Measurement
from engine.design.overlap import top
from engine.design.race import Race
from engine.errors import InputError

COST = TaskCost(prefix=200.0, tail=50.0)


def make_world(n_tasks: int, seed: int) -> tuple[Moves, list[Moves]]:
    """True uncertainties and tables of moves with relative noise."""
    rng = np.random.default_rng(seed)
    true = np.exp(rng.normal(-2.5, 0.5, n_tasks))
    tables = [
        mean * rng.gamma(4, 1 / 4, (40, 1)) * rng.gamma(4, 1 / 4, (1, 40))
        * rng.gamma(5, 1 / 5, (40, 40))
        for mean in true
    ]  # fmt: skip
    return true, tables


def run(
    tables: list[Moves], config: RaceConfig, strata: list[str] | None = None
) -> tuple[Race, list[tuple[Extension, ...]]]:
    names = [str(index) for index in range(len(tables))]
    strata = strata or [""] * len(tables)
    race = Race(
        [Runner(name, COST, 40, stratum) for name, stratum in zip(names, strata, strict=True)],
        config,
    )
    asked = []
    while batch := race.next_batch():
        asked.append(batch)
        for step in batch:
            race.tell(
                step.task_id,
                Measurement(tables[int(step.task_id)][: step.n_instances, : step.n_perturbations]),
            )
    return race, asked


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)), min_size=2, max_size=9),
    st.integers(1, 8),
)
def test_judge_is_lucb_s_definition(tasks: list[tuple[int, int]], n_select: int) -> None:
    u = np.array([float(mean) for mean, _ in tasks])
    half = np.array([float(width) for _, width in tasks])
    inside, reach = judge(u, half, n_select)
    assert set(np.flatnonzero(inside)) == set(top(u, n_select))
    if n_select >= len(u):
        assert (reach < 0).all()
        return
    high, low = u + half, u - half
    for t in range(len(u)):
        beyond = high[~inside].max() - low[t] if inside[t] else high[t] - low[inside].min()
        assert reach[t] == beyond


def test_a_task_at_the_border_is_most_in_doubt() -> None:
    away = distance(np.array([0.5, 0.3, 0.28, 0.1]), 2)
    assert away == pytest.approx([0.21, 0.01, 0.01, 0.19])
    doubts = doubt(away, np.full(4, 0.02))
    assert doubts[1:3] == pytest.approx(0.3085 * 0.6915, abs=1e-3)
    assert doubts[0] < 1e-6
    assert doubt(np.zeros(1), np.ones(1))[0] == pytest.approx(0.25)
    assert (doubt(distance(np.array([0.5, 0.3]), 2), np.full(2, 0.1)) == 0).all()


def test_expected_doubt_is_that_of_a_simulation() -> None:
    rng = np.random.default_rng(0)
    away, now, then = np.array([0.0, 0.4, 1.5]), np.full(3, 1.0), np.array([0.5, 0.8, 0.9])
    means = away + np.sqrt(now**2 - then**2) * rng.standard_normal((200_000, 3))
    simulated = doubt(np.abs(means), np.broadcast_to(then, means.shape)).mean(axis=0)
    assert expected_doubt(away, now, then) == pytest.approx(simulated, abs=4e-3)
    assert (expected_doubt(away, now, then) < doubt(away, now)).all()
    assert expected_doubt(away, now, now) == pytest.approx(doubt(away, now))


@pytest.mark.parametrize("kept", [False, True])
def test_steps_cost_what_the_cost_model_says(kept: bool) -> None:
    n, k = np.array([3.0, 1.0]), np.array([1.0, 4.0])
    limits = Limits(np.full(2, 200.0), np.full(2, 50.0), np.full(2, 20.0), np.full(2, 5.0), kept)
    steps = options(n, k, limits)
    assert steps.n.shape == (9, 2)
    for row in range(9):
        for task in range(2):
            to_n, to_k = int(steps.n[row, task]), int(steps.k[row, task])
            before = int(n[task]), int(k[task])
            assert before[0] <= to_n <= 20
            assert before[1] <= to_k <= 5
            cost = COST.more_perturbations(to_n, to_k - before[1])
            if to_n > before[0]:
                cost += COST.more_instances(before[1], to_n - before[0], prefixes_kept=kept)
            assert steps.tokens[row, task] == cost


def test_extensions_grow_a_whole_table() -> None:
    _, tables = make_world(12, 0)
    _, asked = run(tables, RaceConfig(n_select=4, budget=200_000))
    designs: dict[str, tuple[int, int]] = {}
    for batch in asked:
        assert len({step.task_id for step in batch}) == len(batch)
        for step in batch:
            now = (step.n_instances, step.n_perturbations)
            if before := designs.get(step.task_id):
                assert now != before
                assert all(new >= old for new, old in zip(now, before, strict=True))
            designs[step.task_id] = now
    assert len(asked[0]) == 12
    assert all(len(batch) <= 4 for batch in asked[1:])


def test_the_budget_is_hard_and_open_memberships_are_told() -> None:
    _, tables = make_world(30, 1)
    config = RaceConfig(n_select=8, budget=70_000)
    race, asked = run(tables, config)
    assert race.tokens == sum(step.tokens for batch in asked for step in batch) <= config.budget
    standings = race.standings()
    assert sum(standing.selected for standing in standings) == 8
    assert any(standing.is_open for standing in standings)
    for standing in standings:
        assert 0 <= standing.low <= standing.ranking_estimate <= standing.high <= 1
        assert standing.pairs == standing.n_instances * (standing.n_perturbations + 1)


def test_a_race_without_noise_ends_at_once() -> None:
    tables = [np.full((40, 40), value) for value in (0.1, 0.2, 0.3)]
    config = RaceConfig(n_select=1, budget=1e9, width=0.1, start_perturbations=2)
    race, asked = run(tables, config)
    assert [standing.selected for standing in race.standings()] == [False, False, True]
    assert len(asked) == 1


@pytest.mark.parametrize("rule", ["doubt", "lucb"])
def test_pairs_go_to_the_border(rule: Literal["doubt", "lucb"]) -> None:
    gain: list[int] = []
    near: list[int] = []
    far: list[int] = []
    for seed in range(8):
        true, tables = make_world(40, seed)
        right = set(top(true, 10))
        race, _ = run(tables, RaceConfig(n_select=10, budget=150_000, rule=rule))
        standings = race.standings()
        raced = {i for i, standing in enumerate(standings) if standing.selected}
        k = next(k for k in range(40, 0, -1) if 40 * COST.tokens(6, k) <= 150_000)
        uniform = set(top(np.array([table[:6, :k].mean() for table in tables]), 10))
        gain.append(len(raced & right) - len(uniform & right))
        order = np.argsort(-true)
        near += [standings[i].pairs for i in order[8:12]]
        far += [standings[i].pairs for i in order[-8:]]
    if rule == "doubt":
        assert np.mean(gain) > 0
    assert np.mean(near) > 2 * np.mean(far)


def test_strata_race_each_on_its_own() -> None:
    _, tables = make_world(20, 2)
    strata = ["a", "b"] * 10
    race, _ = run(tables, RaceConfig(n_select=3, budget=60_000), strata)
    chosen = [s for s, standing in zip(strata, race.standings(), strict=True) if standing.selected]
    assert sorted(chosen) == ["a"] * 3 + ["b"] * 3


def test_a_budget_below_the_start_is_refused() -> None:
    with pytest.raises(InputError, match="more than the budget"):
        Race([Runner("a", COST, 40)], RaceConfig(n_select=1, budget=100))


def test_tables_that_nobody_asked_for_are_refused() -> None:
    race = Race([Runner("a", COST, 40)], RaceConfig(n_select=1, budget=10_000))
    with pytest.raises(ValueError, match="was not asked for"):
        race.tell("a", Measurement(np.zeros((2, 2))))
