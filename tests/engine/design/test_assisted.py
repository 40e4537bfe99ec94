"""Ranking estimates: calibrated, helped by expectations that hold, unharmed by others."""

import numpy as np
import pytest

from engine.design.assisted import Estimates, Evidence, estimate, remaining
from engine.design.measurement import Expectation
from engine.variance.analysis import Analysis, Moves
from engine.variance.overlap import top


def make_world(n_tasks: int, seed: int) -> tuple[Moves, Moves, list[Moves]]:
    """True levels, an expectation that explains half of their logarithms, tables of 20 x 20."""
    rng = np.random.default_rng(seed)
    expected = 0.35 * rng.normal(size=n_tasks)
    true = np.exp(-2.5 + expected + 0.35 * rng.normal(size=n_tasks))
    tables = [
        level * rng.gamma(7, 1 / 7, (20, 1)) * rng.gamma(6, 1 / 6, (1, 20))
        * rng.gamma(5, 1 / 5, (20, 20))
        for level in true
    ]  # fmt: skip
    return true, expected, tables


def fit(tables: list[Moves], n: int, k: int, expected: Moves | None = None) -> Estimates:
    squares = [Analysis.of(table[:n, :k]) for table in tables]
    return estimate(Evidence.of(squares, None if expected is None else expectations(expected)))


def expectations(whole: Moves) -> list[Expectation]:
    return [Expectation(each, 0.0) for each in whole.tolist()]


def test_one_design_without_expectation_keeps_the_order_of_the_means() -> None:
    _, _, tables = make_world(40, 0)
    means = np.array([table[:3, :1].mean() for table in tables])
    assert (np.argsort(fit(tables, 3, 1).log_mean) == np.argsort(means)).all()


@pytest.mark.parametrize("design", [(1, 1), (3, 1), (3, 3), (8, 8)])
def test_errors_say_how_far_off_the_estimates_are(design: tuple[int, int]) -> None:
    distances = []
    for seed in range(8):
        true, expected, tables = make_world(60, seed)
        found = fit(tables, *design, expected)
        distances.append((found.log_mean - np.log(true)) / found.log_error)
    assert 0.8 < np.sqrt(np.mean(np.square(distances))) < 1.3


def test_an_expectation_that_holds_helps_and_others_do_no_harm() -> None:
    right: dict[str, list[float]] = {"plain": [], "helped": [], "useless": []}
    for seed in range(20):
        true, expected, tables = make_world(60, seed)
        noise = np.random.default_rng(seed).normal(0, 0.35, 60)
        ways = {
            "plain": np.array([table[:2, :2].mean() for table in tables]),
            "helped": fit(tables, 2, 2, expected).log_mean,
            "useless": fit(tables, 2, 2, noise).log_mean,
        }
        for name, estimates in ways.items():
            right[name].append(np.isin(top(estimates, 15), top(true, 15)).mean())
    assert np.mean(right["helped"]) > np.mean(right["plain"]) + 0.02
    assert np.mean(right["useless"]) > np.mean(right["plain"]) - 0.02


def test_a_wrong_expectation_is_unlearned() -> None:
    """Ten times as steep as the truth: the fit finds that out."""
    right: dict[str, list[float]] = {"plain": [], "steep": []}
    for seed in range(20):
        true, expected, tables = make_world(60, seed)
        means = np.array([table[:3, :3].mean() for table in tables])
        steep = fit(tables, 3, 3, 10 * expected).log_mean
        right["plain"].append(np.isin(top(means, 15), top(true, 15)).mean())
        right["steep"].append(np.isin(top(steep, 15), top(true, 15)).mean())
    assert np.mean(right["steep"]) > np.mean(right["plain"]) - 0.02


def test_a_small_exposure_is_taken_into_account() -> None:
    """Every other task was measured with pairs that are expected to move half as far."""
    _, _, tables = make_world(40, 3)
    halved = np.arange(40) % 2 == 0
    squares = [
        Analysis.of(table[:4, :4] * (0.5 if half else 1.0))
        for table, half in zip(tables, halved, strict=True)
    ]
    exposures = np.where(halved, np.log(0.5), 0.0).tolist()
    told = estimate(Evidence.of(squares, [Expectation(0.0, each) for each in exposures]))
    whole = fit(tables, 4, 4)
    assert np.abs(told.log_mean - whole.log_mean).mean() < 0.05


def test_single_moves_have_estimates() -> None:
    _, _, tables = make_world(10, 4)
    found = fit(tables, 1, 1)
    assert np.isfinite(found.log_mean).all()
    assert (found.log_error > 0).all()


def test_a_large_design_is_hardly_moved() -> None:
    _, expected, tables = make_world(40, 1)
    means = np.array([table.mean() for table in tables])
    assert fit(tables, 20, 20, expected).value == pytest.approx(means, rel=0.12)


def test_a_whole_design_leaves_nothing_to_guess() -> None:
    _, expected, tables = make_world(40, 2)
    squares = [Analysis.of(table) for table in tables]
    evidence = Evidence.of(squares, expectations(expected), [(20.0, 20.0)] * 40)
    found = estimate(evidence)
    assert found.value == pytest.approx([table.mean() for table in tables], rel=1e-3)
    assert (found.log_error < 1e-3).all()
    sizes = (np.full(40, size) for size in (10.0, 20.0, 200.0))
    half = remaining(evidence, found.relative, *sizes)
    assert (half > 1e-3).all()


def test_moves_of_zero_and_equal_tasks_have_an_estimate() -> None:
    none = [np.zeros((2, 1))] * 3
    assert np.isfinite(fit(none, 2, 1).log_mean).all()
    some = [*none, np.full((2, 1), 0.1)]
    found = fit(some, 2, 1)
    assert np.isfinite(found.error).all()
    assert found.value.argmax() == 3


def test_a_single_task_is_its_own_estimate() -> None:
    assert fit([np.full((2, 2), 0.2)], 2, 2).value[0] == pytest.approx(0.2, rel=0.05)
