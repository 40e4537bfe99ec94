"""Pairs as texts and conversations on the real server, against transformers."""

from __future__ import annotations

import pytest

from benchmarks.text_pairs import (
    Agreement,
    answers,
    ids_by_hand,
    own_and_best_other,
    text_cases,
)
from engine.client import EngineClient
from engine.protocol.completions import TokenPair
from tests.integration.reference import Reference

pytestmark = pytest.mark.integration

N_KINDS = 9


def test_texts_are_their_tokens_and_score_as_in_transformers(
    client: EngineClient, base: Reference
) -> None:
    cases = text_cases(N_KINDS, base.tokenizer, seed=3)
    assert len({case.kind for case in cases}) == N_KINDS
    pairs = [ids_by_hand(case, base.tokenizer) for case in cases]
    found = Agreement()
    for pair, text, ids in zip(pairs, *answers(client, cases, pairs), strict=True):
        rows = base.rows(pair.prompt_token_ids, pair.completion_token_ids)
        found.add(pair, text, ids, own_and_best_other(rows, pair.completion_token_ids))
        assert text.token_texts
        assert "".join(text.token_texts) == base.tokenizer.decode(pair.completion_token_ids)
    print(found)
    assert found.same_ids == N_KINDS
    assert found.texts_are_ids < 1e-4
    assert found.texts_are_true < 1e-4
    assert found.greedy_wrong == 0


def test_candidates_are_scored_as_in_transformers(client: EngineClient, base: Reference) -> None:
    prompt = tuple(base.tokenizer("The capital of France is")["input_ids"])
    completion = tuple(base.tokenizer(" Paris, of course")["input_ids"])
    candidates = tuple(range(0, 30_000, 200))  # more than vLLM takes at once
    pair = TokenPair(
        prompt_token_ids=prompt, completion_token_ids=completion, candidate_token_ids=(candidates,)
    )
    (result,) = client.completion_logprobs([pair], tokens=True).results
    assert result.candidate_logprobs is not None
    rows = base.rows(prompt, completion)
    for found, row in zip(result.candidate_logprobs, rows, strict=True):
        assert found == pytest.approx(row[list(candidates)].tolist(), abs=1e-3)
