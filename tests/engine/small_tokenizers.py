"""The families of tokenizers that open models come with, trained small on a few sentences."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

CORPUS = (
    "Definition: Say the color of the thing. Input: sky. Output: blue sea.",
    "Positive Example 1 - Negative Example 2 - Input: grass. Output: green.",
    "Now complete the following example - Input: blood. Output: red. Explanation: so it is.",
    "alpha bravo charlie delta echo foxtrot golf hotel",
)

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _wrap(inner: Tokenizer, **special_tokens: str) -> Any:
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=inner, **special_tokens
    )


def _add_template(inner: Tokenizer, single: str, *special_tokens: str) -> None:
    inner.post_processor = processors.TemplateProcessing(
        single=single,
        pair=None,
        special_tokens=[(token, inner.token_to_id(token)) for token in special_tokens],
    )


def _byte_level(special_tokens: list[str]) -> Tokenizer:
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special_tokens,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(CORPUS, trainer)
    return inner


@cache
def gpt2() -> Any:
    """Byte-level BPE; nothing is added to a text, and one token is both begin and end."""
    inner = _byte_level(["<|endoftext|>"])
    return _wrap(inner, bos_token="<|endoftext|>", eos_token="<|endoftext|>")


@cache
def llama2() -> Any:
    """Sentencepiece-like BPE with byte fallback: a blank before every text, `<s>` before that."""
    inner = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    inner.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    # Sentencepiece learns no piece that spans two words, yet cuts nothing apart when it encodes.
    inner.pre_tokenizer = pre_tokenizers.Split(Regex("▁"), "merged_with_next")
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<unk>", "<s>", "</s>", *bytes_], show_progress=False
    )
    inner.train_from_iterator(CORPUS, trainer)
    inner.pre_tokenizer = None
    inner.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    _add_template(inner, "<s> $A", "<s>")
    return _wrap(inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@cache
def word_piece() -> Any:
    """BERT's: `[CLS]` before a text, `[SEP]`, which is the end of sequence, behind it."""
    inner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=300, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"], show_progress=False
    )
    inner.train_from_iterator(CORPUS, trainer)
    _add_template(inner, "[CLS] $A [SEP]", "[CLS]", "[SEP]")
    return _wrap(inner, bos_token="[CLS]", eos_token="[SEP]", unk_token="[UNK]", pad_token="[PAD]")


@cache
def unigram() -> Any:
    """T5's: Unigram, no beginning of sequence, `</s>` behind every text."""
    inner = Tokenizer(models.Unigram())
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    inner.decoder = decoders.Metaspace(prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=200,
        special_tokens=["<pad>", "</s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
    )
    inner.train_from_iterator(CORPUS, trainer)
    _add_template(inner, "$A </s>", "</s>")
    return _wrap(inner, eos_token="</s>", unk_token="<unk>", pad_token="<pad>")


@cache
def chat() -> Any:
    """Byte-level BPE with a ChatML template, as SmolLM2 and Qwen have it."""
    inner = _byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer = _wrap(inner, bos_token="<|im_start|>", eos_token="<|im_end|>")
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


PLAIN_FAMILIES: dict[str, Callable[[], Any]] = {
    "gpt2": gpt2,
    "llama2": llama2,
    "word_piece": word_piece,
    "unigram": unigram,
}


LLAMA_3_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)

LLAMA_2_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)


@cache
def llama3() -> Any:
    """Byte-level BPE; tokenizer and chat template both write the beginning of sequence."""
    special = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    inner = _byte_level(special)
    inner.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single="<|begin_of_text|> $A",
                pair=None,
                special_tokens=[(special[0], inner.token_to_id(special[0]))],
            ),
        ]
    )
    tokenizer = _wrap(inner, bos_token=special[0], eos_token="<|eot_id|>")
    tokenizer.chat_template = LLAMA_3_TEMPLATE
    return tokenizer


@cache
def llama2_chat() -> Any:
    """Sentencepiece-like BPE whose chat template writes `<s>` before each question."""
    tokenizer = llama2.__wrapped__()
    tokenizer.chat_template = LLAMA_2_TEMPLATE
    return tokenizer


GEMMA_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "<start_of_turn>{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
    "{{ message['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


@cache
def gemma() -> Any:
    """Its turns end in another token than its texts."""
    inner = _byte_level(["<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"])
    tokenizer = _wrap(inner, bos_token="<bos>", eos_token="<eos>")
    tokenizer.chat_template = GEMMA_TEMPLATE
    return tokenizer


CHAT_FAMILIES: dict[str, Callable[[], Any]] = {
    "chatml": chat,
    "llama3": llama3,
    "llama2_chat": llama2_chat,
    "gemma": gemma,
}
