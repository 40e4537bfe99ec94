"""Texts encoded piece by piece have the token ids of the whole, and no others are so encoded."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, trainers
from tokenizers import pre_tokenizers as pre
from transformers import PreTrainedTokenizerFast

from engine.perturb import Perturbation, Shown
from engine.pools.bundled import training_pool
from engine.prompts import PromptBuilder, piecewise
from engine.prompts.piecewise import PiecewiseEncoder
from engine.prompts.seams import common_head, has_seams, parts
from engine.protocol.score_config import ScoreConfig
from engine.weights.models import resolve_model
from tests.engine.small_tokenizers import CORPUS, chat, llama2, unigram, word_piece

GPT_2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN = LLAMA_3.replace("{1,3}", "")
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
GPT_4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK = (
    r"\p{N}{1,3}",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)


def bytes_behind(*patterns: str, behavior: str = "isolated", invert: bool = False) -> Any:
    splits = [pre.Split(Regex(each), behavior, invert) for each in patterns]
    return pre.Sequence([*splits, pre.ByteLevel(add_prefix_space=False, use_regex=False)])


def digits_first() -> Any:
    return pre.Sequence([pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False)])


FAMILIES: dict[str, Callable[[], Any]] = {
    "gpt2": lambda: pre.ByteLevel(add_prefix_space=False),
    "smollm2": digits_first,
    "llama3": lambda: bytes_behind(LLAMA_3),
    "qwen": lambda: bytes_behind(QWEN),
    "gpt4": lambda: bytes_behind(GPT_2, behavior="removed", invert=True),
    "gpt4o": lambda: bytes_behind(GPT_4O),
    "deepseek": lambda: bytes_behind(*DEEPSEEK),
}

# The worst there are for a wrong cut: merges that would like to reach over blanks and lines.
TEXTS = (
    *CORPUS,
    "In this task you're given a sentence. Sentence 1: The dog's  tail, 12 inches long\n\nOutput: ",
    "Éa ü b ça 天空 is blue don't I'll we've  x\ty \n z\r\n a b.c d-e f_g <b> c 1 2 3 a1 b2",
)


def tokenizer_of(splitter: Any, **model: Any) -> Any:
    inner = Tokenizer(models.BPE(**model))
    inner.normalizer = normalizers.NFC()
    inner.pre_tokenizer = splitter
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(TEXTS * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|im_end|>")  # type: ignore[no-untyped-call]


@cache
def of_family(family: str) -> Any:
    return tokenizer_of(FAMILIES[family]())


def whole(tokenizer: Any, texts: list[str]) -> list[tuple[int, ...]]:
    return [tuple(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]


pieces = st.one_of(
    st.sampled_from(
        (
            *(" a", " the", "the", " Input:", "\n\n", " ", "  ", "12", " 3", "'s", "don't", "."),
            *(" -\n", " \n", "\t", "<|im_start|>", "<|im_end|>", "_", " I"),
            *(" é", "e\u0301", "\u0301", "天空"),
        )
    ),
    st.text(max_size=4),
    st.text("abAB ", max_size=6),
)
texts = st.lists(pieces, max_size=12).map("".join)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=60, deadline=None)
@given(head=texts, tails=st.lists(texts, min_size=1, max_size=4))
@example(head="a b \u0301c", tails=["d e", "d f"])
@example(head="", tails=["", "a b"])
def test_pieces_have_the_ids_of_the_whole(family: str, head: str, tails: list[str]) -> None:
    tokenizer = of_family(family)
    assert has_seams(tokenizer)
    given_texts = [head + tail for tail in tails]
    encoder = PiecewiseEncoder(tokenizer)
    assert encoder.encode(given_texts) == whole(tokenizer, given_texts)
    assert encoder.encode(given_texts) == whole(tokenizer, given_texts), "all of it known"


def test_parts_are_cut_between_words_only() -> None:
    text = "Say it, or not. A  b\nc d 1 e é f"
    assert parts(text) == ["Say", " it, or", " not. A  b\nc", " d 1 e é f"]
    assert "".join(parts(text)) == text


def test_a_common_head_ends_at_a_seam_of_all() -> None:
    assert common_head(["a b c d", "a b c e"]) == "a b"
    assert common_head(["a b", "a b c"]) == "a"
    assert common_head(["a b c", "a b c"]) == "a b"
    assert common_head(["1. 2. 3", "1. 2. 4"]) == ""
    assert common_head(["x y", ""]) == ""


def special(text: str, **how: bool) -> Any:
    tokenizer = copy.deepcopy(of_family("qwen"))
    tokenizer.backend_tokenizer.add_special_tokens([AddedToken(text, **how)])
    return tokenizer


def padded() -> Any:
    tokenizer = copy.deepcopy(of_family("qwen"))
    tokenizer.backend_tokenizer.enable_padding(length=7)
    return tokenizer


def lowered() -> Any:
    tokenizer = copy.deepcopy(of_family("qwen"))
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    return tokenizer


@pytest.mark.parametrize(
    "made",
    [
        llama2,
        unigram,
        word_piece,
        padded,
        lowered,
        lambda: tokenizer_of(bytes_behind(r"\p{N}{1,3}")),
        lambda: tokenizer_of(bytes_behind(GPT_2 + r"|foo bar")),
        lambda: tokenizer_of(bytes_behind(rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|\s+")),
        lambda: tokenizer_of(bytes_behind(GPT_2, behavior="merged_with_next")),
        lambda: tokenizer_of(pre.ByteLevel(add_prefix_space=True)),
        lambda: tokenizer_of(pre.Metaspace()),
        lambda: tokenizer_of(digits_first(), dropout=0.1),
        lambda: special("the end"),
        lambda: special("word"),
        lambda: special(" <x>", lstrip=True),
        lambda: special(" "),
        lambda: object(),
    ],
)
def test_other_tokenizers_encode_wholes(made: Callable[[], Any]) -> None:
    assert not has_seams(made())


@pytest.mark.parametrize("text", ["<a b>", "[x]", "  ", "   "])
def test_special_tokens_may_stand_beside_seams(text: str) -> None:
    if text == "<a b>":
        assert not has_seams(special(text))
        return
    tokenizer = special(text, rstrip=True, lstrip=True)
    assert has_seams(tokenizer)
    given_texts = [f"one two{text} three  four five{text}six seven", f"one two{text} three a b"]
    assert PiecewiseEncoder(tokenizer).encode(given_texts) == whole(tokenizer, given_texts)


def test_one_encoder_a_tokenizer_and_none_where_a_class_changes_texts() -> None:
    tokenizer = copy.deepcopy(of_family("llama3"))
    assert piecewise.piecewise(tokenizer) is piecewise.piecewise(tokenizer) is not None

    class Shouting(PreTrainedTokenizerFast):
        def __call__(self, text: Any, **how: Any) -> Any:
            return super().__call__(text.upper(), **how)

    shouting = Shouting(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<|im_end|>")  # type: ignore[no-untyped-call]
    assert has_seams(shouting)
    assert piecewise.piecewise(shouting) is None
    assert piecewise.piecewise(llama2()) is None


def test_what_is_kept_is_bounded_and_threads_do_not_mind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piecewise, "MOST_TOKENS", 40)
    tokenizer = of_family("gpt2")
    encoder = PiecewiseEncoder(tokenizer)
    all_texts = [[f"{text} word{n} a {text}", f"{text} b"] for n in range(40) for text in TEXTS]
    expected = [whole(tokenizer, some) for some in all_texts]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(encoder.encode, all_texts)) == expected
    assert sum(map(len, encoder._known.values())) < 40 + max(len(row) for row, _ in expected)


def test_real_prompts_of_a_real_tokenizer() -> None:
    from transformers import AutoTokenizer  # brings torch in

    tokenizer = AutoTokenizer.from_pretrained(resolve_model("smollm2-135m"))
    assert piecewise.piecewise(tokenizer) is not None
    config = ScoreConfig()
    builder = PromptBuilder(tokenizer, config.prompt, 8192)
    perturbation = Perturbation(config.perturbation, 0)
    for task in training_pool()[::5]:
        forms = [task, *(perturbation.apply(task, j, Shown(2, 2)) for j in (1, 2))]
        rendered = [builder.text(form, each) for form in forms for each in task.instances[:3]]
        assert [*builder.encode(rendered)] == whole(tokenizer, rendered)


def test_the_chat_of_the_small_tokenizers_has_seams() -> None:
    assert has_seams(chat())
