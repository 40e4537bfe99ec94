"""What theory expects of moves: its formula, prompts that shift more, designs with holes."""

import math

import numpy as np
import pytest

from engine.design.measurement import (
    Expectation,
    Measurement,
    perturbation_strength,
    prompt_shifts,
    shift,
)
from engine.perturb import DropWords
from engine.prompts import PromptBuilder
from engine.protocol.score_config import ScoreConfig
from tests.engine.examples import make_task
from tests.engine.questions.fake_backend import FakeBackend


def make_config(rate: float, **design: int) -> ScoreConfig:
    return ScoreConfig(perturbation=DropWords(rate=rate), **design)


def test_sensitivity_is_that_of_the_delta_method() -> None:
    """Log-odds of single tokens are shifted a little; p moves as far as the formula says."""
    rng = np.random.default_rng(0)
    for p, length in ((0.3, 1), (0.7, 9), (0.5, 25)):
        log_odds = np.log(p / (1 - p)) + 1e-3 * rng.standard_normal((100_000, length))
        moved = np.exp(np.log(1 / (1 + np.exp(-log_odds))).mean(axis=1)) - p
        one = Measurement.of_likelihoods(np.zeros((1, 1)), np.array([p]), [length])
        assert moved.std() / 1e-3 == pytest.approx(one.sensitivity, rel=0.02)


def test_sensitivity_is_a_mean_over_instances() -> None:
    moves = np.array([[0.1], [0.1]])
    measured = Measurement.of_likelihoods(moves, np.array([0.5, 0.2]), [4, 1])
    assert measured.moves is moves
    assert measured.sensitivity == pytest.approx((0.25 / 2 + 0.16) / 2)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_a_certain_output_can_still_move(p: float) -> None:
    assert Measurement.of_likelihoods(np.zeros((1, 1)), np.array([p]), [3]).sensitivity > 0.01


def test_the_shift_of_a_prompt_grows_with_the_share_of_dropped_words() -> None:
    backend, task = FakeBackend(), make_task(n_instances=3)
    shifts = []
    for rate in (0.1, 0.5):
        config = make_config(rate)
        builder = PromptBuilder(backend.tokenizer, config.prompt, backend.max_model_len)
        found = prompt_shifts(task, config, builder, 6)
        assert len(found) == 6
        shifts.append(sum(found))
    assert 0 < shifts[0] < shifts[1] < 6
    assert shift(90, 100) == shift(110, 100) == pytest.approx(0.1**0.5)
    assert shift(100, 100) > 0


def test_strength_is_that_of_the_perturbations_beside_the_first_twenty() -> None:
    task = make_task(n_instances=3)
    assert perturbation_strength(task, make_config(0.3, n_perturbations=20)) == 1.0
    single = [
        perturbation_strength(task, make_config(0.3, n_perturbations=1, first_perturbation=j))
        or math.nan
        for j in range(1, 21)
    ]
    assert sum(single) / 20 == pytest.approx(1.0)
    assert len(set(single)) > 2
    some = perturbation_strength(task, make_config(0.3, n_perturbations=3))
    assert some == pytest.approx(sum(single[:3]) / 3)


def test_the_strength_of_paraphrases_is_not_known() -> None:
    config = ScoreConfig.model_validate({"perturbation": {"name": "paraphrase"}})
    assert perturbation_strength(make_task(n_instances=3), config) is None


def test_a_table_with_holes_is_expected_to_show_what_its_pairs_do() -> None:
    moves = np.array([[0.1, 0.2, np.nan], [0.1, np.nan, np.nan]])
    expected = Expectation.of(Measurement(moves, sensitivity=0.1), (1.0, 4.0, 1.0))
    assert math.exp(expected.whole) == pytest.approx(0.1 * 2.0)
    assert math.exp(expected.exposure) == pytest.approx((1 + 1 + 4) / 3 / 2)
    # Those beyond the ones that are known count as the mean.
    more = Expectation.of(Measurement(moves, sensitivity=0.1), (1.0,), strength=0.5)
    assert math.exp(more.whole) == pytest.approx(0.1 * 2.0)
    assert math.exp(more.exposure) == pytest.approx(0.5)
    none = Expectation.of(Measurement(moves), ())
    assert (none.whole, none.exposure) == (0.0, 0.0)
