"""The independent truth: transformers in float32, one pair at a time, nothing shared or cached."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine.manifest import Manifest, Probe
from training.checkpoint import publish
from training.trainer import TrainResult


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
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in changed.model.named_parameters():
            if any(part in name for part in names):
                parameter += scale * parameter.std() * torch.randn_like(parameter)
    prompt = tuple(base.tokenizer("The quick brown fox jumps over")["input_ids"])
    output = tuple(base.tokenizer(" the lazy dog")["input_ids"])
    probe = Probe(
        prompt_token_ids=prompt,
        completion_token_ids=output,
        token_logprobs=tuple(min(0.0, v) for v in changed.token_logprobs(prompt, output)),
    )
    work, checkpoint = root / f"work-{seed}", root / f"checkpoint-{seed}"
    changed.model.save_pretrained(work)
    base.tokenizer.save_pretrained(work)
    result = TrainResult(
        base_model=str(base.folder),
        output=work,
        dtype="float32",
        probes=(probe,),
        rows=0,
        steps=0,
        seconds=0.0,
        seconds_per_step=0.0,
        losses=(),
    )
    manifest = publish(result, checkpoint, round_index=seed)
    changed.folder = checkpoint
    return checkpoint, manifest, changed
