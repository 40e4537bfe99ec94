"""A tiny random Llama with a tokenizer of its own, made in a moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TEXT = """
Definition : Positive Example Input Output Now complete the following example - . 1 2 3
say color of sky grass blood blue green red reverse word abc cba xyz zyx
"""


def make_tokenizer() -> Any:
    """A word-level tokenizer with padding, unknown and end-of-sequence tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<pad>": 0, "<unk>": 1, "<eos>": 2}
    for word in TEXT.split():
        vocabulary.setdefault(word, len(vocabulary))
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>", eos_token="<eos>"
    )


def save_tiny_model(
    folder: Path,
    *,
    tied: bool,
    seed: int = 0,
    tokenizer: Any = None,
    family: str = "llama",
    **config: Any,
) -> None:
    """Write model and tokenizer as a checkpoint folder.

    Args:
        folder: Where to.
        tied: Whether input and output embeddings are the same.
        seed: Of the weights.
        tokenizer: That of `make_tokenizer` when none.
        family: `llama`, `qwen2` or `gpt2`.
        config: What differs from the smallest Llama.
    """
    make_tiny_model(tied, seed, tokenizer, family, **config).save_pretrained(folder)
    (tokenizer or make_tokenizer()).save_pretrained(folder)


def make_tiny_model(
    tied: bool, seed: int = 0, tokenizer: Any = None, family: str = "llama", **config: Any
) -> Any:
    """The model of `save_tiny_model`."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    smallest = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
    } | config
    if family == "gpt2":  # it calls most of them otherwise, and has as many key heads as heads
        del smallest["num_key_value_heads"]
        smallest["n_inner"] = smallest.pop("intermediate_size")
    chosen = AutoConfig.for_model(
        family,
        **smallest,
        tie_word_embeddings=tied,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=(tokenizer or make_tokenizer()).eos_token_id,
    )
    make: Any = AutoModelForCausalLM.from_config
    return make(chosen)
