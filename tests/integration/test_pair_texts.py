"""Pairs as texts and conversations on the real server, against transformers."""

from __future__ import annotations

import pytest

from benchmarks.text_pairs import Agreement, answers, ids_by_hand, text_cases
from engine.client import EngineClient
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
        found.add(pair, text, ids, base.rows(pair.prompt_token_ids, pair.completion_token_ids))
        assert text.token_texts
        assert "".join(text.token_texts) == base.tokenizer.decode(pair.completion_token_ids)
    print(found)
    assert found.same_ids == N_KINDS
    assert found.texts_are_ids < 1e-4
    assert found.texts_are_true < 1e-4
    assert found.greedy_wrong == 0
