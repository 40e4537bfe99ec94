"""Which pairs are read twice, how often the greedy answer is another, and where both are told."""

from __future__ import annotations

import pytest

from tests.engine.examples import make_task
from tests.engine.questions.fake_backend import FakeBackend
from tests.engine.questions.in_memory import design, make_tasks, score_all


@pytest.mark.parametrize(
    ("precision", "wanted", "read"),
    [("float32", None, 0), ("bfloat16", None, 2), ("bfloat16", 0, 0), ("float32", 3, 3)],
)
def test_originals_are_read_twice_where_rounding_tells(
    precision: str, wanted: int | None, read: int
) -> None:
    backend = FakeBackend(precision=precision, noise=1e-3)
    task = make_task(n_instances=4)
    (score,) = score_all([task], design(n=4, k=2, second_readings=wanted), backend)
    again = [name for name in backend.calls if name.endswith("/again")]
    assert len(again) == read
    assert all("/j=0/" in name for name in again)
    assert score.usage.pairs == 8 + read
    assert score.precision == precision
    second = [pair for pair in score.pairs if pair.second_logprob is not None]
    assert [pair.perturbation for pair in second] == [0] * read
    for pair in second:
        assert pair.second_logprob is not None
        off = (pair.logprob - pair.second_logprob) / pair.n_tokens
        assert 0 < off <= 4e-3


def test_what_cannot_be_measured_is_not_read_twice() -> None:
    backend = FakeBackend(precision="bfloat16")
    task = make_task(definition="Say", n_positive=0, n_negative=0)
    (score,) = score_all([task], design(), backend)
    assert score.prompt_uncertainty is None
    assert score.flip_rate is None
    assert not any(name.endswith("/again") for name in backend.calls)


def test_the_flip_rate_counts_prompts_under_which_a_token_is_not_likeliest() -> None:
    tasks = make_tasks(5)
    for score in score_all(tasks, design(n=3, k=4)):
        flipped = [not pair.is_greedy for pair in score.pairs if pair.perturbation]
        assert score.flip_rate == pytest.approx(sum(flipped) / len(flipped))
        assert all(pair.is_greedy for pair in score.pairs if not pair.perturbation)


def test_gold_outputs_have_no_flip_rate() -> None:
    (score,) = score_all([make_task()], design(reference="gold"))
    assert score.flip_rate is None
    assert all(pair.is_greedy is not None for pair in score.pairs)
