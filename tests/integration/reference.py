"""The independent truth: transformers in float32, one pair at a time, nothing shared or cached."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.common.checkpoints import as_trained, publish_noise
from engine.weights.manifest import Manifest
from training.trainer.checkpoint import publish


class Reference:
    """A model in transformers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        # Eager: the default leaves out a cap of attention scores (Gemma 2).
        self.model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        )
        self.model.train(False)

    def rows(self, prompt: Sequence[int], output: Sequence[int]) -> torch.Tensor:
        """Log-probabilities of the whole vocabulary at each output token, outputs x vocabulary."""
        with torch.inference_mode():
            ids = torch.tensor([[*prompt, *output]])
            logits = self.model(ids, logits_to_keep=len(output) + 1).logits[0]
        rows: torch.Tensor = logits[:-1].log_softmax(dim=-1)
        return rows

    def token_logprobs(self, prompt: Sequence[int], output: Sequence[int]) -> list[float]:
        """Log-probability of each output token."""
        rows = self.rows(prompt, output)
        return [float(rows[index, token]) for index, token in enumerate(output)]

    def probability(self, prompt: Sequence[int], output: Sequence[int]) -> float:
        """The geometric mean of the token probabilities."""
        return math.exp(math.fsum(self.token_logprobs(prompt, output)) / len(output))


def published_change(
    base: Reference, root: Path, seed: int, *, names: Sequence[str] = ("",), scale: float = 0.05
) -> tuple[Path, Manifest, Reference]:
    """A checkpoint that differs from the base model by noise, published as the trainer would.

    Args:
        base: The model to start from; it is left alone.
        root: Where the checkpoint folder goes.
        seed: Of the noise.
        names: Parts of the names of the parameters that change.
        scale: Standard deviation of the noise, relative to the parameter's own.
    """
    changed = copy.copy(base)
    changed.model = copy.deepcopy(base.model)
    checkpoint, manifest = publish_noise(
        changed.model, base.tokenizer, base.folder, root, seed, names=names, scale=scale
    )
    changed.folder = checkpoint
    return checkpoint, manifest, changed


def published_adapter(base: Reference, root: Path, seed: int) -> tuple[Path, Manifest, Reference]:
    """An adapter with random matrices, published as the trainer would; and the merged model."""
    changed = copy.copy(base)
    torch.manual_seed(seed)
    adapted: Any = get_peft_model(
        copy.deepcopy(base.model), LoraConfig(r=8, lora_alpha=16, target_modules="all-linear")
    )
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.02)
    work, folder = root / f"work-{seed}", root / f"adapter-{seed}"
    adapted.save_pretrained(work, save_embedding_layers=False)
    changed.model = adapted.merge_and_unload()
    manifest = publish(
        as_trained(changed.model, base.tokenizer, base.folder, work), folder, round_index=seed
    )
    changed.folder = folder
    return folder, manifest, changed
