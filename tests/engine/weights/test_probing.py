"""Probe pairs."""

from __future__ import annotations

from engine.weights.probing import crossed


def test_every_second_prompt_is_followed_by_what_it_was_not_trained_on() -> None:
    pairs = crossed([[1], [2], [3], [4]], [[10], [20], [30], [40]])
    assert [pair.completion_token_ids for pair in pairs] == [(10,), (30,), (30,), (10,)]


def test_no_pair_is_longer_than_those_that_fit_the_context() -> None:
    prompts, completions = [[1], [2] * 9, [3]], [[10], [20], [30] * 8]
    pairs = crossed(prompts, completions)
    sizes = [len(pair.prompt_token_ids) + len(pair.completion_token_ids) for pair in pairs]
    assert max(sizes) <= 10
    assert pairs[1].completion_token_ids == (20,), "its own: the next one's would make 17 of it"
