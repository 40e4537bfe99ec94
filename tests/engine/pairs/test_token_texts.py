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
    "completion",
    [
        *(" blue sea.", "\n\n  Output: x", " 日本語 🎉 e\u0301", "  ", " </s><s>", "é", " \ufffd"),
        *("\ufffda", " a\ufffd\ufffd🎉\ufffdb", "\ufffd" * 50 + "🎉", "🎉" * 50),
    ],
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


@pytest.mark.parametrize("family", ["gpt2", "llama3"])
def test_what_looks_like_half_a_character_may_be_one(family: str) -> None:
    tokenizer = FAMILIES[family]()

    def texts(text: str) -> list[str]:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert len(ids) == len(text.encode())
        return token_texts(tokenizer, (), ids)

    one, party = ["", "", "\ufffd"], ["", "", "", "🎉"]
    assert texts("\ufffd!") == [*one, "!"]
    assert texts("\ufffd" * 10) == one * 10
    assert texts("\ufffd🎉\ufffd\ufffd") == one + party + one + one
    assert texts("🎉" * 9 + "\ufffd") == party * 9 + one


def test_each_token_is_decoded_with_few_others() -> None:
    tokenizer = FAMILIES["gpt2"]()
    decoded: list[int] = []

    class Counting:
        def decode(self, ids: list[int], **more: bool) -> str:
            decoded.append(len(ids))
            return str(tokenizer.decode(ids, **more))

    half = tokenizer("🎉")["input_ids"][1]
    texts = token_texts(Counting(), (), [half] * 2_000)
    assert texts == ["\ufffd"] * 2_000
    assert max(decoded[1:]) <= 64
    assert sum(decoded) < 64 * 2_100
