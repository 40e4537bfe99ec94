"""Estimates of what scoring takes: what cannot be told is missing, and said to be."""

from __future__ import annotations

import pytest

from engine.errors import InputError
from engine.pools.describe import _estimate
from engine.pools.estimate import Rate, estimate, measure_rate, time_in_words
from engine.prompts import PromptBuilder
from engine.protocol.score_config import ScoreConfig
from tests.engine.design.test_live_race import Engine
from tests.engine.examples import make_task
from tests.engine.small_tokenizers import gpt2

CONFIG = ScoreConfig(n_instances=2, n_perturbations=3, max_output_tokens=4)


def test_times_are_told_as_a_person_would() -> None:
    told = {119.0: "119 seconds", 150.0: "2.5 minutes", 7_199.0: "120.0 minutes", 9e3: "2.5 hours"}
    assert {seconds: time_in_words(seconds) for seconds in told} == told


@pytest.mark.parametrize("context", [8, 999])
def test_tokens_are_missing_where_no_sampled_task_fits(context: int) -> None:
    builder = PromptBuilder(gpt2(), CONFIG.prompt, context)
    found = estimate(20, [make_task()], CONFIG, builder, rate=Rate(pairs_per_second=2.0))
    assert (found.pairs, found.references) == (80, 20)
    assert found.seconds == 40
    told = dict(_estimate(found)[1:2])["tokens"]
    if context == 8:
        assert found.unfit_tasks == 1
        values = (found.tokens, found.tokens_per_pair, found.tokens_generated)
        assert (*values, found.reusable_share) == (None,) * 4
        assert told == "not estimated: no sampled task fits"
    else:
        assert found.tokens
        assert told.startswith(f"about {found.tokens:,}, ")


def test_no_rate_is_measured_on_tasks_without_pairs() -> None:
    word = make_task(definition="Translate", n_positive=0, n_negative=0)
    with pytest.raises(InputError, match="no perturbation changes a prompt"):
        measure_rate(Engine(), [word, word.model_copy(update={"id": "b"})], CONFIG)
