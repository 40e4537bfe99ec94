"""Probe pairs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from engine.weights.probing import crossed, probe_logprobs, text_pairs
from tests.training.tiny import make_tiny_model, make_tokenizer


def test_every_second_prompt_is_followed_by_what_it_was_not_trained_on() -> None:
    pairs = crossed([[1], [2], [3], [4]], [[10], [20], [30], [40]])
    assert [pair.completion_token_ids for pair in pairs] == [(10,), (30,), (30,), (10,)]


def test_no_pair_is_longer_than_those_that_fit_the_context() -> None:
    prompts, completions = [[1], [2] * 9, [3]], [[10], [20], [30] * 8]
    pairs = crossed(prompts, completions)
    sizes = [len(pair.prompt_token_ids) + len(pair.completion_token_ids) for pair in pairs]
    assert max(sizes) <= 10
    assert pairs[1].completion_token_ids == (20,), "its own: the next one's would make 17 of it"


def test_attention_scores_are_capped_as_the_engine_caps_them() -> None:
    """PyTorch's attention, which transformers takes by default, leaves the cap out."""
    shape: dict[str, Any] = {"attn_logit_softcapping": 0.1, "initializer_range": 1.0}
    model = make_tiny_model(tied=True, family="gemma2", **shape)
    ids = make_tokenizer()
    pairs = text_pairs(lambda text: ids.encode(text, add_special_tokens=False))
    pair = pairs[0]
    whole = torch.tensor([[*pair.prompt_token_ids, *pair.completion_token_ids]])
    start = len(pair.prompt_token_ids)

    def logprobs() -> list[float]:
        with torch.no_grad():
            rows = model(whole).logits[0, start - 1 : -1].log_softmax(-1)
        return [float(row[token]) for row, token in zip(rows, whole[0, start:], strict=True)]

    assert model.config._attn_implementation == "sdpa"
    uncapped = logprobs()
    found = list(probe_logprobs(model, pairs)[0].token_logprobs)
    assert model.config._attn_implementation == "sdpa"
    model.set_attn_implementation("eager")
    assert found == pytest.approx(logprobs(), abs=1e-6)
    assert found != pytest.approx(uncapped, abs=1e-3)
