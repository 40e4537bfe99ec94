"""The independent truth: transformers in float32, one pair at a time, nothing shared or cached."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.checkpoints import publish_noise
from engine.manifest import Manifest


class Reference:
    """A model in transformers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self.model.train(False)

    def token_logprobs(self, prompt: Sequence[int], output: Sequence[int]) -> list[float]:
        """Log-probability of each output token."""
        with torch.inference_mode():
            ids = torch.tensor([[*prompt, *output]])
            logits = self.model(ids, logits_to_keep=len(output) + 1).logits[0]
        rows = logits[:-1].log_softmax(dim=-1)
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
