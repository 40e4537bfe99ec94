"""A model of a given shape without weights: a config and a tokenizer, for `--load-format dummy`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from engine.weights.models import BUNDLED_MODEL, resolve_model

LLAMA_8B: dict[str, Any] = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 128256,
    "rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"},
    "tie_word_embeddings": False,
    "dtype": "bfloat16",
}
"""The shape of Llama-3.1-8B."""

TINY: dict[str, Any] = {
    **LLAMA_8B,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "vocab_size": 49152,
    "dtype": "float32",
}
"""One that any machine has at once."""


def write_random(folder: Path, shape: dict[str, Any]) -> Path:
    """The bundled model's config in another shape, and its tokenizer; the folder."""
    source = Path(resolve_model(BUNDLED_MODEL))
    folder.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, folder)
    config = json.loads((source / "config.json").read_text()) | shape
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def weight_bytes(folder: Path, per_weight: int = 2) -> int:
    """Bytes of all weights of a model, embeddings and projection included."""
    from benchmarks.common.floor import model_sizes

    weights, projection = model_sizes(str(folder))
    config = json.loads((folder / "config.json").read_text())
    return per_weight * (weights + projection * (1 if config["tie_word_embeddings"] else 2))
