"""The expected overlap against the overlap of simulated repeats."""

import numpy as np
import polars as pl
import pytest

from engine.variance.overlap import (
    expected_overlap,
    in_words,
    repeat_in_words,
    repeat_model,
    top,
)


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.1, 0.5, 1.0, 2.0])
def test_expected_overlap_is_the_observed_one(noise: float) -> None:
    rng = np.random.default_rng(0)
    observed, expected = [], []
    for seed in range(60):
        true = rng.normal(0, 1, 80)
        errors = noise * rng.uniform(0.5, 1.5, 80)
        first, second = (true + errors * rng.normal(0, 1, 80) for _ in range(2))
        observed.append(np.isin(top(first, 20), top(second, 20)).mean())
        expected.append(expected_overlap(first, errors, 20, seed=seed))
    assert np.mean(expected) == pytest.approx(np.mean(observed), abs=0.03)


def test_without_errors_a_repeat_is_the_same() -> None:
    assert expected_overlap([3.0, 1.0, 2.0], [0.0, 0.0, 0.0], 2) == 1.0


def test_all_noise_gives_the_overlap_of_chance() -> None:
    errors = [1.0] * 100
    values = np.random.default_rng(0).normal(0, 0.5, 100)
    assert expected_overlap(values, errors, 20) == pytest.approx(0.2, abs=0.02)


def test_what_is_shrunk_already_is_not_shrunk_again() -> None:
    u, s = np.random.default_rng(0).normal(0, 1, 30), np.full(30, 0.7)
    mean, deviation = repeat_model(u, s)
    posterior = np.sqrt(deviation**2 - s**2)
    again = repeat_model(mean, posterior, shrunk=True)
    assert again[0] == pytest.approx(mean)
    assert again[1] == pytest.approx(deviation)
    sure, equal = repeat_model(np.ones(3), np.zeros(3), shrunk=True)
    assert (sure.tolist(), equal.tolist()) == ([1.0] * 3, [0.0] * 3)


def test_selecting_everything_overlaps_wholly() -> None:
    assert expected_overlap([1.0, 2.0], [1.0, 1.0], 5) == 1.0


def test_words() -> None:
    said = "a repeat would pick about 31 of these 40 again, chance alone 20"
    assert in_words(0.775, 40, 80) == said
    assert (
        in_words(0.6, 4, 12) == "a repeat would pick about 2.4 of these 4 again, chance alone 1.3"
    )
    said = "a repeat would pick it again in 46 % of cases, chance alone in 50 %"
    assert in_words(0.456, 1, 2) == said
    scores = pl.DataFrame(
        {
            "task_id": ["a", "b", "c", "d"],
            "prompt_uncertainty": [3.0, 1.0, 2.0, None],
            "standard_error": [1e-3] * 3 + [None],
        }
    )
    said = "a repeat would pick about 2.0 of these 2 again, chance alone 1.3"
    assert repeat_in_words(scores, ["a", "c"]) == said
    assert repeat_in_words(scores, ["a", "b"]) == "", "they are not the most uncertain"
    assert repeat_in_words(scores, ["d"]) == "", "it could not be measured"
    assert repeat_in_words(scores, ["a", "b", "c"]).startswith("a repeat would pick about 3.0 of")
