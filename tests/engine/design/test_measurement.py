"""Covariates of a measurement: what they are, and that they come from planned prompts and pairs."""

import math

import numpy as np
import pytest

from engine.config import ScoreConfig
from engine.design.measurement import Measurement, prompt_change
from engine.perturb import DropWords
from engine.prompts import PromptBuilder
from tests.engine.examples import make_task
from tests.engine.fake_backend import FakeBackend


def test_outputs_become_covariates() -> None:
    moves = np.array([[0.1], [0.1]])
    measured = Measurement.of_likelihoods(moves, np.array([0.5, 0.2]), [2, 8])
    assert measured.moves is moves
    assert measured.covariates == pytest.approx((math.log(4), math.log(0.1) / 2))


def test_a_probability_of_zero_has_a_covariate() -> None:
    measured = Measurement.of_likelihoods(np.zeros((1, 1)), np.zeros(1), [3])
    assert all(map(math.isfinite, measured.covariates))


def test_the_change_of_a_prompt_grows_with_the_share_of_dropped_words() -> None:
    backend = FakeBackend()
    changes = []
    for rate in (0.1, 0.5):
        config = ScoreConfig(perturbation=DropWords(rate=rate))
        builder = PromptBuilder(backend.tokenizer, config.prompt, backend.max_model_len)
        changes.append(prompt_change(make_task(n_instances=3), config, builder, 6))
    assert 0 < changes[0] < changes[1] < 1
