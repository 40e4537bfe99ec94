"""Ranking estimates: calibrated, helped by covariates that matter, unharmed by others."""

import numpy as np
import pytest

from engine.design.analysis import Analysis, Moves
from engine.design.assisted import Estimates, Evidence, estimate, remaining
from engine.design.overlap import top


def make_world(n_tasks: int, seed: int) -> tuple[Moves, Moves, list[Moves]]:
    """True levels, a covariate that explains half of their logarithms, tables of 20 x 20 moves."""
    rng = np.random.default_rng(seed)
    covariate = rng.normal(size=n_tasks)
    true = np.exp(-2.5 + 0.35 * covariate + 0.35 * rng.normal(size=n_tasks))
    tables = [
        level * rng.gamma(7, 1 / 7, (20, 1)) * rng.gamma(6, 1 / 6, (1, 20))
        * rng.gamma(5, 1 / 5, (20, 20))
        for level in true
    ]  # fmt: skip
    return true, covariate, tables


def fit(tables: list[Moves], n: int, k: int, *covariates: Moves) -> Estimates:
    squares = [Analysis.of(table[:n, :k]) for table in tables]
    rows = np.array(covariates).T if covariates else [()] * len(tables)
    return estimate(Evidence.of(squares, [tuple(row) for row in rows]))


def test_one_design_without_covariates_keeps_the_order_of_the_means() -> None:
    _, _, tables = make_world(40, 0)
    means = np.array([table[:3, :1].mean() for table in tables])
    assert (np.argsort(fit(tables, 3, 1).log_mean) == np.argsort(means)).all()


@pytest.mark.parametrize("design", [(1, 1), (3, 1), (3, 3), (8, 8)])
def test_errors_say_how_far_off_the_estimates_are(design: tuple[int, int]) -> None:
    distances = []
    for seed in range(8):
        true, covariate, tables = make_world(60, seed)
        found = fit(tables, *design, covariate)
        distances.append((found.log_mean - np.log(true)) / found.log_error)
    assert 0.8 < np.sqrt(np.mean(np.square(distances))) < 1.3


def test_a_covariate_that_matters_helps_and_others_do_no_harm() -> None:
    right: dict[str, list[float]] = {"plain": [], "helped": [], "useless": []}
    for seed in range(20):
        true, covariate, tables = make_world(60, seed)
        noise = np.random.default_rng(seed).normal(size=(2, 60))
        ways = {
            "plain": np.array([table[:2, :2].mean() for table in tables]),
            "helped": fit(tables, 2, 2, covariate).log_mean,
            "useless": fit(tables, 2, 2, *noise).log_mean,
        }
        for name, estimates in ways.items():
            right[name].append(np.isin(top(estimates, 15), top(true, 15)).mean())
    assert np.mean(right["helped"]) > np.mean(right["plain"]) + 0.02
    assert np.mean(right["useless"]) > np.mean(right["plain"]) - 0.02


def test_a_large_design_is_hardly_moved() -> None:
    _, covariate, tables = make_world(40, 1)
    means = np.array([table.mean() for table in tables])
    assert fit(tables, 20, 20, covariate).value == pytest.approx(means, rel=0.12)


def test_a_whole_design_leaves_nothing_to_guess() -> None:
    _, covariate, tables = make_world(40, 2)
    squares = [Analysis.of(table) for table in tables]
    evidence = Evidence.of(squares, covariate[:, None].tolist(), [(20.0, 20.0)] * 40)
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
