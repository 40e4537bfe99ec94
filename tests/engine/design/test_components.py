"""Variance components against a table worked out by hand, and against simulation."""

import math

import numpy as np
import pytest

from engine.api import PairScore
from engine.design.components import (
    TYPICAL,
    Components,
    MeanSquares,
    Moves,
    Pooled,
    moves_of,
    standard_errors,
)

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


def test_mean_squares_equal_a_table_worked_out_by_hand() -> None:
    # Row means 1.5 and 4.5, column means 2 and 4, mean 3; residuals +-0.5.
    squares = MeanSquares.of(np.array([[1.0, 2.0], [3.0, 6.0]]))
    assert squares.mean == 3.0
    assert (squares.instances, squares.perturbations, squares.interaction) == (9.0, 4.0, 1.0)
    assert squares.components() == Components(4.0, 1.5, 1.0)
    assert squares.components().variance(2, 2) == pytest.approx(4 / 2 + 1.5 / 2 + 1 / 4)


def test_negative_estimates_are_set_to_0() -> None:
    squares = MeanSquares.of(np.array([[0.0, 1.0], [1.0, 0.0]]))
    assert min(squares.untruncated()) < 0
    assert squares.components() == Components(0.0, 0.0, squares.interaction)


def test_components_are_unbiased_in_simulation() -> None:
    rng = np.random.default_rng(0)
    estimates = [MeanSquares.of(draw(rng, 6, 8)).untruncated() for _ in range(4000)]
    expected = (TRUE.instances, TRUE.perturbations, TRUE.interaction)
    assert np.mean(estimates, axis=0) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(("n", "k"), [(10, 10), (5, 3), (1, 4), (4, 1)])
def test_the_standard_error_is_the_spread_of_repeats(n: int, k: int) -> None:
    rng = np.random.default_rng(1)
    means = [draw(rng, n, k).mean() for _ in range(4000)]
    assert TRUE.standard_error(n, k) == pytest.approx(np.std(means), rel=0.05)


def test_components_of_one_instance_or_one_perturbation_are_refused() -> None:
    with pytest.raises(ValueError, match="two instances"):
        MeanSquares.of(np.ones((1, 3))).components()


@pytest.mark.parametrize(("n", "k"), [(4, 3), (10, 10)])
def test_shrunken_errors_are_closer_to_the_truth_than_a_task_s_own(n: int, k: int) -> None:
    rng = np.random.default_rng(2)
    means = rng.uniform(0.1, 0.4, 60)
    truth = [TRUE.scaled(mean**2 / 0.04) for mean in means]
    tables = [draw(rng, n, k, c, mean) for c, mean in zip(truth, means, strict=True)]
    right = np.array([each.standard_error(n, k) for each in truth])
    own = np.array([MeanSquares.of(t).components().standard_error(n, k) for t in tables])
    shrunk = np.array(standard_errors(tables))
    assert np.abs(np.log(shrunk / right)).mean() < np.abs(np.log(own / right)).mean()
    assert np.mean(shrunk / right) == pytest.approx(1.0, abs=0.15)


def test_one_instance_or_one_perturbation_still_gives_an_error() -> None:
    rng = np.random.default_rng(3)
    tables = [draw(rng, 1, 6), draw(rng, 5, 1), draw(rng, 1, 1)]
    assert all(0 < error < 1 for error in standard_errors(tables))
    alone = Pooled.of([MeanSquares.of(np.full((1, 1), 0.2))])
    assert alone.relative == TYPICAL
    assert standard_errors([]) == []


def test_a_pool_without_any_movement_has_no_error() -> None:
    assert standard_errors([np.zeros((3, 3))] * 4) == [0.0] * 4


def pair(instance: str, j: int, probability: float) -> PairScore:
    return PairScore(
        instance_id=instance, perturbation=j, n_tokens=1, logprob=0.0, probability=probability
    )


def test_moves_of_scored_pairs() -> None:
    pairs = [pair("a", 0, 0.5), pair("a", 1, 0.25), pair("b", 0, 0.5), pair("b", 1, 1.0)]
    assert moves_of(pairs).tolist() == [[0.25], [0.5]]
    with pytest.raises(ValueError, match="same perturbed pairs"):
        moves_of(pairs[:-1])
