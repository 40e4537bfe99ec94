"""Published checkpoints that differ from a model by noise, as a training leaves them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.weights.manifest import Manifest, Probe
from training.trainer.checkpoint import publish
from training.trainer.trainer_process import TrainResult

PROMPT = "The quick brown fox jumps over"
OUTPUT = " the lazy dog"


def publish_noise(
    model: Any,
    tokenizer: Any,
    base: Path,
    root: Path,
    seed: int,
    *,
    names: Sequence[str] = ("",),
    scale: float = 0.05,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]] = (),
) -> tuple[Path, Manifest]:
    """Add noise to a model and publish it, with probes of its own log-probabilities.

    Args:
        model: A causal language model of transformers, in float32; it is changed.
        tokenizer: Its tokenizer.
        base: Folder that it came from.
        root: Where the checkpoint folder goes.
        seed: Of the noise; also the round that the checkpoint says it is of.
        names: Parts of the names of the parameters that change.
        scale: Standard deviation of the noise, relative to the parameter's own.
        pairs: See `as_trained`.
    """
    import torch

    torch.manual_seed(seed)
    with torch.inference_mode():
        for name, parameter in model.named_parameters():
            if any(part in name for part in names):
                parameter += scale * parameter.std() * torch.randn_like(parameter)
    work, checkpoint = root / f"work-{seed}", root / f"checkpoint-{seed}"
    model.save_pretrained(work)
    tokenizer.save_pretrained(work)
    result = as_trained(model, tokenizer, base, work, pairs)
    return checkpoint, publish(result, checkpoint, round_index=seed)


def as_trained(
    model: Any,
    tokenizer: Any,
    base: Path,
    work: Path,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]] = (),
) -> TrainResult:
    """What a trainer would have left of a model whose files lie in a folder.

    Args:
        model: A causal language model of transformers, in float32.
        tokenizer: Its tokenizer.
        base: Folder that it came from.
        work: Folder of its files, or of its adapter's.
        pairs: Token ids of the probes; none: one short pair.
    """
    import torch

    if not pairs:
        pairs = [(tokenizer(PROMPT)["input_ids"], tokenizer(OUTPUT)["input_ids"])]
    probes = []
    for prompt, output in pairs:
        with torch.inference_mode():
            ids = torch.tensor([[*prompt, *output]], device=model.device)
            rows = model(ids, logits_to_keep=len(output) + 1).logits[0, :-1].log_softmax(dim=-1)
        probes.append(
            Probe(
                prompt_token_ids=tuple(prompt),
                completion_token_ids=tuple(output),
                token_logprobs=tuple(
                    min(0.0, float(rows[index, token])) for index, token in enumerate(output)
                ),
            )
        )
    return TrainResult(
        base_model=str(base),
        output=work,
        dtype="float32",
        probes=tuple(probes),
        rows=0,
        steps=0,
        seconds=0.0,
        seconds_per_step=0.0,
        losses=(),
    )
