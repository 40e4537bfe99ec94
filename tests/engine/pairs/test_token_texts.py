"""The texts of a completion's tokens."""

from __future__ import annotations

import pytest

from engine.pairs.pair_encoder import EncodedPair, PairEncoder
from engine.pairs.token_texts import token_texts
from engine.protocol.completions import Encoding, TextPair
from tests.engine.small_tokenizers import CHAT_FAMILIES, PLAIN_FAMILIES

FAMILIES = {**PLAIN_FAMILIES, **CHAT_FAMILIES}
LOSSLESS = [name for name in FAMILIES if name not in ("word_piece", "unigram")]


@pytest.mark.parametrize("family", LOSSLESS)
@pytest.mark.parametrize(
    "completion", [" blue sea.", "\n\n  Output: x", " 日本語 🎉 e\u0301", "  ", " </s><s>", "é"]
)
def test_together_they_are_the_completion(family: str, completion: str) -> None:
    tokenizer = FAMILIES[family]()
    pair = TextPair(prompt="Say the color", completion=completion)
    (found,) = PairEncoder(tokenizer, Encoding()).encode([pair])
    assert isinstance(found, EncodedPair)
    texts = token_texts(tokenizer, found.prompt, found.completion)
    assert len(texts) == len(found.completion)
    assert "".join(texts) == completion


def test_a_character_of_several_tokens_belongs_to_the_last_of_them() -> None:
    tokenizer = PLAIN_FAMILIES["gpt2"]()
    ids = tokenizer("🎉!")["input_ids"]
    texts = token_texts(tokenizer, ids[:0], ids)
    assert texts == ["", "", "", "🎉", "!"]
    assert token_texts(tokenizer, (), ids[:2])[-1] == "\ufffd", "cut: no character to wait for"
