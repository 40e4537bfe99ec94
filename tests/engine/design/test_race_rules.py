"""The race: its rule by brute force, its units, its budget, and that it beats equal shares."""

from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.design.border import distance, doubt, expected_doubt, judge
from engine.design.costs import TaskCost
from engine.design.entries import Extension, RaceConfig, Runner
from engine.design.extensions import GROWTHS, Growth, Room, Scored, Sizes, grown, options
from engine.design.measurement import Measurement
from engine.design.race_rules import Race
from engine.errors import InputError
from engine.variance.analysis import Analysis, Moves
from engine.variance.overlap import top

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
        [
            Runner(name, COST, len(table), stratum)
            for name, table, stratum in zip(names, tables, strata, strict=True)
        ],
        config,
    )
    asked = []
    while batch := race.next_batch():
        asked.append(batch)
        for step in batch:
            n, k = step.scored.shape
            table = tables[int(step.task_id)][:n, :k]
            race.tell(step.task_id, Measurement(np.where(step.scored, table, np.nan)))
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


def sizes_of(tables: list[Scored]) -> Sizes:
    return Sizes.of(tables, [Analysis.of(np.where(table, 0.5, np.nan)) for table in tables])


@st.composite
def some_table(draw: st.DrawFn) -> Scored:
    """Grown by random steps from a small crossed one."""
    table = np.ones((draw(st.integers(1, 4)), draw(st.integers(1, 3))), bool)
    for option in draw(st.lists(st.integers(0, len(GROWTHS) - 1), max_size=4)):
        found = options(sizes_of([table]), limits(1))
        if np.isfinite(found.tokens[option, 0]):
            rows, columns = int(found.rows[option, 0]), int(found.columns[option, 0])
            table = grown(table, GROWTHS[option], rows, columns, "x")
    return table


def limits(n_tasks: int, *, kept: bool = False) -> Room:
    prefix, tail, n, k = (np.full(n_tasks, size) for size in (COST.prefix, COST.tail, 9.0, 6.0))
    return Room(prefix, tail, n, k, kept)


def visited(before: Scored, after: Scored) -> tuple[int, int, int]:
    """Prefixes that are new, those that are met again, and pairs, all counted in the tables."""
    (n, k), pairs = before.shape, int(after.sum() - before.sum())
    whole = np.zeros_like(after)
    whole[:n, :k] = before
    again = int((after & ~whole)[:, :k].any(axis=0).sum())
    more = after.shape[0] - n
    return after.shape[1] - k, again + (more > 0), pairs + more


@given(st.lists(some_table(), min_size=1, max_size=3), st.booleans())
def test_steps_grow_tables_and_cost_what_the_pairs_cost(tables: list[Scored], kept: bool) -> None:
    found = options(sizes_of(tables), limits(len(tables), kept=kept))
    for option, step in enumerate(GROWTHS):
        for task, table in enumerate(tables):
            rows, columns = int(found.rows[option, task]), int(found.columns[option, task])
            if not np.isfinite(found.tokens[option, task]):
                continue
            after = grown(table, step, rows, columns, "x")
            n, k = table.shape
            assert after.shape == (n + rows, k + columns)
            assert after.shape[0] <= 9
            assert after.shape[1] <= 6
            assert (after[:n, :k] >= table).all()
            assert after.sum() == found.cells[option, task] > table.sum()
            assert after.any(axis=0).all()
            assert after.any(axis=1).all()
            new, again, pairs = visited(table, after)
            prefixes = new + (0 if kept else again)
            assert found.tokens[option, task] == prefixes * COST.prefix + pairs * COST.tail


def test_steps_say_what_they_bring() -> None:
    """What a step is expected to bring is what its table has, or a little more."""
    table = np.ones((4, 2), bool)
    found = options(sizes_of([table]), limits(1))
    for option, step in enumerate(GROWTHS):
        if np.isfinite(found.tokens[option, 0]):
            rows, columns = int(found.rows[option, 0]), int(found.columns[option, 0])
            after = sizes_of([grown(table, step, rows, columns, "x")])
            assert found.effective_n[option] == pytest.approx(after.effective_n, rel=0.1)
            assert found.effective_k[option] == pytest.approx(after.effective_k, rel=0.1)


def test_further_perturbations_meet_the_instances_used_least() -> None:
    table = np.array([[True, True], [True, True], [True, False], [True, False]])
    after = grown(table, Growth("perturbations", 2, 2), 0, 2, "x")
    assert after[:, 2].tolist() == [False, False, True, True]
    assert after[:, 3].sum() == 2
    holes = grown(table, Growth("holes", 0, 1), 0, 0, "x")
    assert holes[:, 0].all()
    assert holes[2:, 1].sum() == 1


def test_a_block_takes_an_old_perturbation_when_there_can_be_no_more() -> None:
    table = np.ones((2, 6), bool)
    table[1, 3] = False
    found = options(sizes_of([table]), limits(1))
    option = GROWTHS.index(Growth("block", 2))
    assert (found.rows[option, 0], found.columns[option, 0]) == (2, 0)
    after = grown(table, GROWTHS[option], 2, 0, "x")
    assert after[2:].tolist() == [[False, False, False, True, False, False]] * 2


def test_tables_grow_and_new_instances_meet_the_same_perturbations() -> None:
    _, tables = make_world(12, 0)
    _, asked = run(tables, RaceConfig(n_select=4, budget=200_000))
    held: dict[str, Scored] = {}
    for batch in asked:
        assert len({step.task_id for step in batch}) == len(batch)
        for step in batch:
            before = held.get(step.task_id, np.zeros((0, 0), bool))
            n, k = before.shape
            assert (step.scored[:n, :k] >= before).all()
            assert step.scored.sum() > before.sum()
            new = step.scored[n:]
            assert (new == new[:1]).all()
            held[step.task_id] = step.scored
    assert any(not table.all() for table in held.values())
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
        n, k = standing.n_instances, standing.n_perturbations
        assert n + max(n, k) <= standing.pairs <= n * (k + 1)


def test_a_race_without_noise_ends_at_once() -> None:
    tables = [np.full((40, 40), value) for value in (0.1, 0.2, 0.3)]
    config = RaceConfig(n_select=1, budget=1e9, width=0.1, start_perturbations=2)
    race, asked = run(tables, config)
    assert [standing.selected for standing in race.standings()] == [False, False, True]
    assert len(asked) == 1


def test_more_tasks_without_a_move_than_outsiders_leave_those_that_move_inside() -> None:
    rng = np.random.default_rng(0)
    levels = (*np.zeros(24), *rng.uniform(0.05, 0.12, 3))
    tables = [level * rng.gamma(8, 1 / 8, (4, 8)) for level in levels]
    race, _ = run(tables, RaceConfig(n_select=6, budget=1e6, max_perturbations=8))
    standings = race.standings()
    assert all(each.selected for each in standings[24:])
    assert sum(each.selected for each in standings) == 6
    assert [each.ranking_estimate for each in standings[24:]] == pytest.approx(
        [each.prompt_uncertainty for each in standings[24:]], rel=0.05
    )
    assert all(0 <= each.ranking_error < 0.1 for each in standings)


@pytest.mark.slow
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


def test_tasks_that_cannot_be_measured_leave_together() -> None:
    _, tables = make_world(6, 0)
    race = Race(
        [Runner(str(at), COST, 40) for at in range(6)], RaceConfig(n_select=2, budget=1e5, batch=6)
    )
    for gone in ({"4"}, {"0", "2"}):
        batch = race.next_batch()
        before, cost = race.tokens, sum(step.tokens for step in batch)
        for step in batch:
            if step.task_id not in gone:
                n, k = step.scored.shape
                table = tables[int(step.task_id)][:n, :k]
                race.tell(step.task_id, Measurement(np.where(step.scored, table, np.nan)))
        race.withdraw([step.task_id for step in batch if step.task_id in gone])
        assert race.tokens == pytest.approx(before + cost)
    assert race.next_batch()
    assert [standing.task_id for standing in race.standings()] == ["1", "3", "5"]


def test_a_budget_below_the_start_is_refused() -> None:
    with pytest.raises(InputError, match="more than the budget"):
        Race([Runner("a", COST, 40)], RaceConfig(n_select=1, budget=100))


def test_tables_that_nobody_asked_for_are_refused() -> None:
    race = Race([Runner("a", COST, 40)], RaceConfig(n_select=1, budget=10_000))
    with pytest.raises(ValueError, match="was not asked for"):
        race.tell("a", Measurement(np.zeros((2, 2))))
