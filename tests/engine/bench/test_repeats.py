"""Margins and intervals hold what they say."""

from __future__ import annotations

import math
import random

import pytest

from engine.bench.figures import Quantiles
from engine.bench.repeats import ratio, repeated, t_beyond, t_quantile


@pytest.mark.parametrize(
    ("degrees", "expected"), [(1, 12.706), (2, 4.303), (9, 2.262), (10, 2.228), (30, 2.042)]
)
def test_quantiles_of_t(degrees: int, expected: float) -> None:
    assert t_quantile(degrees) == pytest.approx(expected, abs=3e-3)
    assert t_beyond(t_quantile(degrees), degrees) == pytest.approx(0.05, abs=1e-4)


@pytest.mark.parametrize(
    ("t", "degrees", "expected"),
    [(1.0, 1, 0.5), (3.078, 1, 0.2), (1.061, 2, 0.4), (4.2426, 4, 0.01324), (3.365, 5, 0.02)],
)
def test_shares_beyond_t(t: float, degrees: int, expected: float) -> None:
    assert t_beyond(t, degrees) == pytest.approx(expected, rel=1e-3)
    assert (t_beyond(0.0, degrees), t_beyond(math.inf, degrees)) == (1.0, 0.0)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_a_repeat_of_the_whole_falls_within_the_margin_19_times_of_20(n: int) -> None:
    draw = random.Random(n)

    def measure() -> list[float]:
        return [draw.gauss(10, 1) for _ in range(n)]

    hits = 0
    for _ in range(1_500):
        found = repeated(measure())
        assert found.margin is not None
        hits += abs(repeated(measure()).mean - found.mean) <= found.margin
    assert hits / 1_500 == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(("n", "m"), [(3, 3), (3, 6)])
def test_the_interval_of_a_ratio_holds_it(n: int, m: int) -> None:
    draw = random.Random(m)
    hits = 0
    for _ in range(1_500):
        found = ratio(
            [draw.gauss(20, 2) for _ in range(n)], [draw.gauss(10, 0.3) for _ in range(m)]
        )
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 2 <= found.high
    assert hits / 1_500 >= 0.925


def test_one_measurement_has_no_margin_and_nothing_no_ratio() -> None:
    assert repeated([3.0]).margin is None
    alone = ratio([3.0], [2.0, 2.0])
    assert alone is not None
    assert (alone.value, alone.low) == (1.5, None)
    assert ratio([1.0], [0.0]) is None
    same = ratio([3.0, 3.0], [2.0, 2.0])
    assert same is not None
    assert same.low == same.high == 1.5


def test_a_quantile_is_a_time_that_was_measured() -> None:
    found = Quantiles.of([float(n) for n in range(1, 101)])
    assert found is not None
    assert (found.mean, found.p50, found.p95, found.p99) == (50.5, 50, 95, 99)
    few = Quantiles.of([3.0, 1.0])
    assert few is not None
    assert (few.p50, few.p95, few.p99) == (1, 3, 3)
    assert Quantiles.of([]) is None
