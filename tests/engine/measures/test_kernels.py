"""The measures equal their formulas, computed here once more in the plainest way."""

from __future__ import annotations

import math
from fractions import Fraction
from random import Random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.measures import (
    map_categories,
    perplexity,
    prediction_probability,
    prompt_uncertainty,
)
from engine.measures.task_map import MapConfig, categorise, find_thresholds
from engine.protocol.api import PairScore
from engine.variance.pair_grid import PairGrid


def make_pair(instance: str, j: int, logprob: float, n_tokens: int = 1) -> PairScore:
    return PairScore(
        instance_id=instance,
        perturbation=j,
        n_prompt_tokens=9,
        n_tokens=n_tokens,
        logprob=logprob,
        probability=math.exp(logprob / n_tokens),
    )


def with_probability(instance: str, j: int, probability: float) -> PairScore:
    return PairScore(
        instance_id=instance,
        perturbation=j,
        n_prompt_tokens=9,
        n_tokens=1,
        logprob=math.log(probability),
        probability=probability,
    )


HAND = [
    with_probability("a", 0, 0.5),
    with_probability("a", 1, 0.25),
    with_probability("a", 2, 0.75),
    with_probability("b", 0, 0.125),
    with_probability("b", 1, 0.125),
    with_probability("b", 2, 0.625),
]


def test_by_hand() -> None:
    assert prompt_uncertainty(PairGrid.of(HAND)) == (0.25 + 0.25 + 0 + 0.5) / 4
    assert prediction_probability(PairGrid.of(HAND)) == (0.5 + 0.125) / 2
    assert perplexity(PairGrid.of(HAND)) == pytest.approx(4.0, abs=1e-12)  # 1 / sqrt(1/2 * 1/8)


def test_perplexity_counts_tokens() -> None:
    pairs = [make_pair("a", 0, -4 * math.log(2), 4), make_pair("b", 0, -3 * math.log(2), 1)]
    assert perplexity(PairGrid.of(pairs)) == pytest.approx(4.0, abs=1e-12)  # 2 ** ((1 + 3) / 2)


@st.composite
def grids(draw: st.DrawFn) -> list[list[tuple[float, int]]]:
    """(logprob, n_tokens) by instance and perturbation; the reference is of one length."""
    n, k = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    lengths = draw(st.lists(st.integers(1, 40), min_size=n, max_size=n))
    return [
        [(draw(st.floats(-30 * length, 0)), length) for _ in range(k + 1)] for length in lengths
    ]


@given(grids(), st.integers(0, 2**16))
@settings(deadline=None, max_examples=100)
def test_against_the_plain_formula(grid: list[list[tuple[float, int]]], seed: int) -> None:
    pairs = [
        make_pair(str(i), j, logprob, n_tokens)
        for i, row in enumerate(grid)
        for j, (logprob, n_tokens) in enumerate(row)
    ]
    p = [[Fraction(math.exp(logprob / length)) for logprob, length in row] for row in grid]
    n, k = len(p), len(p[0]) - 1
    uncertainty = sum(abs(p[i][j] - p[i][0]) for i in range(n) for j in range(1, k + 1)) / (n * k)
    probability = sum(row[0] for row in p) / n
    mean = sum(Fraction(row[0][0]) / row[0][1] for row in grid) / n
    Random(seed).shuffle(pairs)  # the order of the pairs means nothing
    scored = PairGrid.of(pairs)
    u = prompt_uncertainty(scored)
    assert u is not None
    assert abs(u - float(uncertainty)) <= 1e-12
    assert abs(prediction_probability(scored) - float(probability)) <= 1e-12
    assert perplexity(scored) == pytest.approx(math.exp(-float(mean)), rel=1e-12)
    assert 0 <= u <= 1
    assert 0 <= prediction_probability(scored) <= 1
    assert perplexity(scored) >= 1


def test_nothing_moves_nothing_is_uncertain() -> None:
    pairs = [with_probability("a", j, 0.3) for j in range(5)]
    assert prompt_uncertainty(PairGrid.of(pairs)) == 0


def test_originals_alone_say_nothing_of_uncertainty() -> None:
    assert prompt_uncertainty(PairGrid.of([with_probability("a", 0, 0.5)])) is None


def test_no_original_pair() -> None:
    with pytest.raises(ValueError, match=r"no original pair for instances \['b'\]"):
        PairGrid.of([*HAND[:3], with_probability("b", 1, 0.5)])
    with pytest.raises(ValueError, match="no original pair"):
        PairGrid.of([])


def make_map(*rows: tuple[float, float]) -> pl.DataFrame:
    return pl.DataFrame(
        rows, schema=["prompt_uncertainty", "prediction_probability"], orient="row"
    ).cast(pl.Float64)


def test_map_categories() -> None:
    scores = make_map((0.9, 0.9), (0.8, 0.1), (0.2, 0.9), (0.1, 0.2))
    found = map_categories(scores)
    assert found.name == "map_category"
    assert found.to_list() == ["ambiguous", "ambiguous", "easy", "difficult"]


def test_map_category_borders_belong_below_in_uncertainty_and_above_in_probability() -> None:
    scores = make_map((0.1, 0.2), (0.2, 0.4), (0.3, 0.3))
    # The medians are 0.2 and 0.3: the second row sits on one, the third on the other.
    assert map_categories(scores).to_list() == ["difficult", "easy", "ambiguous"]
    equal = make_map((0.5, 0.5), (0.5, 0.5))
    assert map_categories(equal).to_list() == ["easy", "easy"]


def test_map_quantiles_are_the_callers() -> None:
    scores = make_map((0.1, 0.1), (0.2, 0.2), (0.3, 0.3), (0.4, 0.4), (0.5, 0.5))
    borders = MapConfig(uncertainty_quantile=0.75, probability_quantile=0.25)
    found = categorise(scores, find_thresholds(scores, borders))
    assert found.to_list() == ["difficult", "easy", "easy", "easy", "ambiguous"]
    last = find_thresholds(scores, MapConfig(uncertainty_quantile=1.0))
    assert categorise(scores, last).to_list().count("ambiguous") == 0


def test_one_task_and_none() -> None:
    assert map_categories(make_map((0.3, 0.3))).to_list() == ["easy"]
    assert map_categories(make_map()).to_list() == []
