"""What goes wrong with checkpoints on their way to a server, planted one at a time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from engine.weights.manifest import MANIFEST_NAME, file_digest

Tensors = dict[str, torch.Tensor]

WEIGHTS = "model.safetensors"
HEAD, EMBEDDINGS = "lm_head.weight", "model.embed_tokens.weight"

_DTYPES = {torch.float32: "F32", torch.int32: "I32"}


def changes(layer: int) -> dict[str, Callable[[Tensors], object]]:
    """Faults of the tensors of a Llama-shaped model, by name; most of them in one of its layers."""
    k_proj = f"model.layers.{layer}.self_attn.k_proj.weight"
    norm = f"model.layers.{layer}.input_layernorm.weight"
    return {
        "half of a fused tensor missing": lambda tensors: tensors.pop(k_proj),
        "whole tensor missing": lambda tensors: tensors.pop(norm),
        "wrong name": lambda tensors: tensors.update({norm + "_": tensors.pop(norm)}),
        "extra tensor": lambda tensors: tensors.update({k_proj + "_": tensors[k_proj].clone()}),
        "wrong shape": lambda tensors: tensors.update({k_proj: tensors[k_proj][:-8].clone()}),
        "wrong dtype": lambda tensors: tensors.update({norm: tensors[norm].to(torch.int32)}),
        "NaN": lambda tensors: tensors[k_proj][3].fill_(torch.nan),
        "other values": lambda tensors: tensors[k_proj].mul_(-1.0),
        "half a checkpoint": lambda tensors: [
            tensors.pop(name) for name in sorted(tensors)[: len(tensors) // 2]
        ],
        "untied into tied": lambda tensors: tensors.update(
            {HEAD: tensors[EMBEDDINGS].roll(1, 0).clone()}
        ),
    }


def damage(checkpoint: Path, how: str, layer: int) -> None:
    """Damages a published checkpoint whose probes say what it ought to hold.

    Its manifest describes the damaged files, but for the first two faults: what is told by digests
    alone would be found too easily.

    Args:
        how: `missing file`, `truncated file`, `another architecture`, or one of `changes`.
        layer: Number of the layer that is damaged.
    """
    file = checkpoint / WEIGHTS
    if how == "missing file":
        file.unlink()
        return
    if how == "truncated file":
        shutil.copy(file, checkpoint / "part")
        (checkpoint / "part").rename(file)
        with file.open("r+b") as stream:
            stream.truncate(file.stat().st_size - 4096)
        return
    manifest = json.loads((checkpoint / MANIFEST_NAME).read_text())
    if how == "another architecture":
        _set_config(checkpoint, rope_theta=17.0, rms_norm_eps=0.5)
    else:
        tensors = load_file(file)
        changes(layer)[how](tensors)
        file.unlink()
        save_file(tensors, file, metadata={"format": "pt"})
        manifest["tensors"] = [
            {"name": key, "shape": list(value.shape), "dtype": _DTYPES[value.dtype]}
            for key, value in sorted(tensors.items())
        ]
        if how == "untied into tied":
            _set_config(checkpoint, tie_word_embeddings=False)
    for entry in manifest["files"]:
        path = checkpoint / entry["name"]
        entry |= {"size": path.stat().st_size, "sha256": file_digest(path)}
    _write_anew(checkpoint / MANIFEST_NAME, json.dumps(manifest))


def _set_config(checkpoint: Path, **values: object) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    _write_anew(checkpoint / "config.json", json.dumps(config | values))


def _write_anew(path: Path, text: str) -> None:
    """In a file of its own: the one that is there may be linked from another checkpoint."""
    path.unlink()
    path.write_text(text)
