"""Variance components against a table worked out by hand, and against simulation."""

import math

import numpy as np
import pytest

from engine.protocol.api import PairScore
from engine.questions.incidence import incidence
from engine.variance.analysis import Analysis, Moves
from engine.variance.components import TYPICAL, Components
from engine.variance.pair_grid import PairGrid
from engine.variance.pooling import Pooled, standard_errors

TRUE = Components(instances=0.0009, perturbations=0.0004, interaction=0.0016)


def draw(
    rng: np.random.Generator, n: int, k: int, components: Components = TRUE, mean: float = 0.2
) -> Moves:
    return (
        mean
        + rng.normal(0, math.sqrt(components.instances), (n, 1))
        + rng.normal(0, math.sqrt(components.perturbations), (1, k))
        + rng.normal(0, math.sqrt(components.interaction), (n, k))
    )


def with_holes(moves: Moves, r: int, seed: int = 0) -> Moves:
    n, k = moves.shape
    kept = np.full_like(moves, np.nan)
    for j, column in enumerate(incidence("t", n, k, r, seed)):
        kept[list(column), j] = moves[list(column), j]
    return kept


def test_estimates_equal_a_table_worked_out_by_hand() -> None:
    # Row means 1.5 and 4.5, column means 2 and 4, mean 3; mean squares 9, 4 and residuals' 1.
    analysis = Analysis.of(np.array([[1.0, 2.0], [3.0, 6.0]]))
    assert analysis.mean == 3.0
    assert analysis.estimates == pytest.approx(((9 - 1) / 2, (4 - 1) / 2, 1.0))
    assert analysis.degrees == (1, 1, 1)
    assert Components(*analysis.estimates).variance(2, 2) == pytest.approx(4 / 2 + 1.5 / 2 + 1 / 4)


def test_estimates_of_a_table_with_a_hole_worked_out_by_hand() -> None:
    # 3, 3 and 2 moves in rows and columns. Sums of squares: all 24, rows 0, columns 50 / 3; so
    # 24 / 5 within rows (perturbations and rest), 22 / 15 within columns (instances and rest).
    # Rows are expected to have 8 - 22 / 8 of instances, 3 - 22 / 8 of perturbations, 2 of the rest.
    table = np.array([[1.0, 2.0, 6.0], [2.0, 3.0, 4.0], [1.0, 5.0, np.nan]])
    analysis = Analysis.of(table)
    assert (analysis.cells, analysis.mean, analysis.degrees) == (8, 3.0, (2, 2, 3))
    assert analysis.effective_n == analysis.effective_k == pytest.approx(64 / 22)
    assert analysis.total == pytest.approx(24 / 7)
    rest = (5.25 * (22 / 15) + 0.25 * (24 / 5) - 0) / (5.25 + 0.25 - 2)
    assert analysis.estimates == pytest.approx((22 / 15 - rest, 24 / 5 - rest, rest))


@pytest.mark.parametrize("r", [2, 3, 6])
def test_components_are_unbiased_in_simulation(r: int) -> None:
    rng = np.random.default_rng(0)
    tables = [with_holes(draw(rng, 6, 8), r, seed) for seed in range(4000)]
    estimates = [Analysis.of(table).estimates for table in tables]
    expected = (TRUE.instances, TRUE.perturbations, TRUE.interaction)
    assert np.mean(estimates, axis=0) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("r", [1, 2, 5])
def test_the_error_of_an_incomplete_design_is_the_spread_of_repeats(r: int) -> None:
    rng = np.random.default_rng(1)
    tables = [with_holes(draw(rng, 5, 10), r, seed) for seed in range(4000)]
    analysis = Analysis.of(tables[0])
    assert (analysis.n, analysis.k, analysis.cells) == (5, 10, 10 * r)
    spread = np.std([np.nanmean(table) for table in tables])
    assert math.sqrt(analysis.variance(TRUE)) == pytest.approx(spread, rel=0.05)


def test_instances_that_are_used_more_often_count_for_fewer() -> None:
    table = np.array([[0.1, 0.2, 0.3], [0.4, np.nan, np.nan]])
    analysis = Analysis.of(table)
    assert analysis.effective_n == pytest.approx(16 / 10)
    assert analysis.effective_k == pytest.approx(16 / 6)
    assert analysis.variance(TRUE) < TRUE.variance(1, 3)


def test_errors_of_single_moves_follow_their_spread() -> None:
    """One move per instance and perturbation tells no component, but their sum."""
    rng = np.random.default_rng(5)
    tables = [with_holes(draw(rng, 8, 8, TRUE.scaled(4)), 1, seed) for seed in range(300)]
    spread = np.std([np.nanmean(table) for table in tables])
    assert np.array(standard_errors(tables), float).mean() == pytest.approx(spread, rel=0.1)


@pytest.mark.parametrize(("n", "k"), [(10, 10), (5, 3), (1, 4), (4, 1)])
def test_the_standard_error_is_the_spread_of_repeats(n: int, k: int) -> None:
    rng = np.random.default_rng(1)
    means = [draw(rng, n, k).mean() for _ in range(4000)]
    assert TRUE.standard_error(n, k) == pytest.approx(np.std(means), rel=0.05)


@pytest.mark.parametrize(("n", "k"), [(4, 3), (10, 10)])
def test_shrunken_errors_are_closer_to_the_truth_than_a_task_s_own(n: int, k: int) -> None:
    rng = np.random.default_rng(2)
    means = rng.uniform(0.1, 0.4, 60)
    truth = [TRUE.scaled(mean**2 / 0.04) for mean in means]
    tables = [draw(rng, n, k, c, mean) for c, mean in zip(truth, means, strict=True)]
    right = np.array([each.standard_error(n, k) for each in truth])
    alone = [Components(*(max(0.0, each) for each in Analysis.of(t).estimates)) for t in tables]
    own = np.array([each.standard_error(n, k) for each in alone])
    shrunk = np.array(standard_errors(tables), float)
    assert np.abs(np.log(shrunk / right)).mean() < np.abs(np.log(own / right)).mean()
    assert np.mean(shrunk / right) == pytest.approx(1.0, abs=0.15)


def test_one_instance_or_one_perturbation_still_gives_an_error() -> None:
    rng = np.random.default_rng(3)
    tables = [draw(rng, 1, 6), draw(rng, 5, 1), draw(rng, 1, 1)]
    assert all(error is not None and 0 < error < 1 for error in standard_errors(tables))
    alone = Pooled.of([Analysis.of(np.full((1, 1), 0.2))])
    assert alone.relative == TYPICAL
    assert standard_errors([]) == []


def test_a_pool_without_any_movement_has_no_error() -> None:
    assert standard_errors([np.zeros((3, 3))] * 4) == [0.0] * 4


def pair(instance: str, j: int, probability: float) -> PairScore:
    return PairScore(
        instance_id=instance,
        perturbation=j,
        n_prompt_tokens=9,
        n_tokens=1,
        logprob=0.0,
        probability=probability,
    )


def test_moves_of_scored_pairs() -> None:
    pairs = [pair("a", 0, 0.5), pair("a", 1, 0.25), pair("b", 0, 0.5), pair("b", 1, 1.0)]
    assert PairGrid.of(pairs).moves.tolist() == [[0.25], [0.5]]
    with pytest.raises(ValueError, match="needs its original"):
        PairGrid.of(pairs[1:])
    some = PairGrid.of(pairs[:-1]).moves
    assert some[0, 0] == 0.25
    assert math.isnan(some[1, 0])
