"""How an engine of one's own and the trainer share one GPU.

Plain arithmetic about memory, kept on the safe side: an engine that is stopped without need costs
a start, a training that runs out of memory costs the round.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.errors import InputError
from engine.process.gpu_memory import GIB, Gpu
from engine.process.settings import flag_value
from engine.weights.manifest import read_safetensors_header
from training.config.run_config import RunConfig
from training.config.train_config import TrainConfig

Sharing = Literal["keep", "sleep", "stop"]
"""What becomes of the engine while the trainer works."""

USABLE = 0.96
"""Of the memory that is free: blocks do not pack without gaps."""

MOST_ENGINE = 0.9
"""What the engine takes of the device at most; vLLM's own choice is a little more."""

CONTEXT = int(0.6 * GIB)
"""What CUDA and its libraries take in each process."""

ENGINE_WORK = int(2.4 * GIB)
"""Activations, graphs and buffers of an engine, beside weights and cache."""

LEAST_CACHE = 1 * GIB
"""Keys and values that an engine ought to have at least."""

OUTPUT_SHARE = 0.25
"""Of a training row's tokens, those whose logits are computed: completions are short."""


@dataclass(frozen=True, slots=True)
class ModelSize:
    """What memory depends on.

    Attributes:
        weights: Number of parameters.
        layers: Number of layers.
        hidden: Width of the residual stream.
        inner: Width of the feed-forward layer.
        vocabulary: Size of the vocabulary.
        position_weights: Keys and values of one position, in numbers.
    """

    weights: int
    layers: int
    hidden: int
    inner: int
    vocabulary: int
    position_weights: int


@dataclass(frozen=True, slots=True)
class DevicePlan:
    """What is done.

    Attributes:
        sharing: What becomes of the engine.
        engine_share: `--gpu-memory-utilization`; None: as the user or vLLM has it.
        train: How to train: the same gradients in smaller pieces where memory asks for it.
        reason: A line for a person; empty where there was nothing to decide.
    """

    sharing: Sharing
    engine_share: float | None
    train: TrainConfig
    reason: str = ""

    @property
    def engine_flags(self) -> list[str]:
        """The vLLM flags of it."""
        share = self.engine_share
        flags = [] if share is None else [f"--gpu-memory-utilization={share}"]
        return [*flags, "--enable-sleep-mode"] if self.sharing == "sleep" else flags

    def in_pieces(self, train: TrainConfig) -> TrainConfig:
        """Another training, of another seed perhaps, in the pieces of this one."""
        pieces = ("batch_size", "gradient_accumulation_steps", "gradient_checkpointing")
        return train.model_copy(update={name: getattr(self.train, name) for name in pieces})


def count_weights(folder: Path) -> int | None:
    """Number of parameters of the model in a folder; None where no safetensors file tells."""
    try:
        files = folder.glob("*.safetensors")
        tensors = [tensor for file in files for tensor in read_safetensors_header(file)]
    except (OSError, InputError):
        return None
    return sum(math.prod(tensor.shape) for tensor in tensors) or None


def read_model_size(folder: Path) -> ModelSize | None:
    """The size of the model in a folder; None where that is not plain from its files."""
    weights = count_weights(folder)
    if weights is None:
        return None
    try:
        config = json.loads((folder / "config.json").read_text())
        heads = int(config["num_attention_heads"])
        hidden = int(config["hidden_size"])
        size = int(config.get("head_dim") or hidden // heads)
        layers = int(config["num_hidden_layers"])
        kv_heads = int(config.get("num_key_value_heads") or heads)
        inner, vocabulary = int(config["intermediate_size"]), int(config["vocab_size"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return ModelSize(weights, layers, hidden, inner, vocabulary, 2 * layers * kv_heads * size)


def training_bytes(model: ModelSize, train: TrainConfig, row_length: int) -> int:
    """Device memory of the trainer with rows of the greatest length.

    Weights, gradients and AdamW's two moments in float32, and a bfloat16 copy of the weights while
    a batch is computed; of a layer, what its backward pass reads (Korthikanti et al., 2022, with a
    residual stream in float32 and three matrices in the feed-forward part).
    """
    tokens = train.batch_size * row_length
    layer = tokens * (34 * model.hidden + 8 * model.inner)
    if train.precision == "float32":
        layer = 3 * layer // 2
    kept = tokens * 4 * model.hidden
    activations = (
        model.layers * kept + layer if train.gradient_checkpointing else model.layers * layer
    )
    logits = int(tokens * OUTPUT_SHARE) * model.vocabulary * 10
    if train.lora is not None:
        per_weight = 6
    else:
        per_weight = 16 if train.gradient_accumulation_steps == 1 else 18
    return CONTEXT + per_weight * model.weights + activations + logits


def engine_bytes(model: ModelSize, dtype: str, max_model_len: int) -> int:
    """What an engine needs at least to work well: a few whole contexts in its cache."""
    size = 4 if dtype in ("float32", "float") else 2
    cache = max(LEAST_CACHE, 4 * max_model_len * model.position_weights * size)
    return CONTEXT + ENGINE_WORK + size * model.weights + cache


def plan_device(gpus: Sequence[Gpu], model: ModelSize | None, config: RunConfig) -> DevicePlan:
    """How engine and trainer share what there is.

    Of these the first that fits: the engine stays, with the memory that training leaves it; it
    sleeps; it is stopped; the same three with gradient checkpointing. Each also with fewer rows at
    once.

    Args:
        gpus: Those that engine and trainer see; none: they share the machine's memory.
        model: The model; None: not known.
    """
    train, asked = config.train, config.engine.while_training
    if not gpus or asked == "keep":
        # A CPU's engine has no sleep.
        return DevicePlan("stop" if asked in ("sleep", "stop") else "keep", None, train)
    gpu, others = gpus[0], gpus[1:]
    if model is None or gpu.total is None or gpu.used is None or others or train.launcher:
        # Who knows who uses what of them?
        reason = "the engine is stopped while the trainer works: what that takes is not known"
        return DevicePlan("stop", None, train, reason if asked == "auto" else "")
    free = int((gpu.total - gpu.used) * USABLE)
    dtype = flag_value(config.engine.flags, "dtype") or "bfloat16"
    least = engine_bytes(model, dtype, config.model.max_model_len)
    ways: tuple[Sharing, ...] = ("keep", "sleep", "stop") if asked == "auto" else (asked,)
    beside = {"keep": least, "sleep": CONTEXT + ENGINE_WORK, "stop": 0}
    needed, way = 0, train
    for checkpointing in sorted({train.gradient_checkpointing, True}):
        for sharing in ways:
            for way in _pieces(train, checkpointing):
                needed = training_bytes(model, way, config.max_row_length)
                if needed + beside[sharing] <= free:
                    room = free - needed if sharing == "keep" else free
                    share = _share(room / gpu.total, config)
                    return DevicePlan(sharing, share, way, _reason(sharing, way, train))
    return DevicePlan(
        "stop",
        None,
        way,
        f"training may need {needed / GIB:.0f} GiB, and {free / GIB:.0f} can be had: a section "
        "train.lora, a smaller train.max_length or another train.arguments.optim needs less",
    )


def _share(room: float, config: RunConfig) -> float | None:
    """The engine's part of the device, rounded down; the user's own flag comes first."""
    if any(flag_value(config.engine.flags, flag) for flag in _MEMORY_FLAGS):
        return None
    return int(100 * min(MOST_ENGINE, room)) / 100


_MEANWHILE = {"sleep": "sleeps", "stop": "is stopped"}

_MEMORY_FLAGS = ("gpu-memory-utilization", "kv-cache-memory-bytes")


def _reason(sharing: Sharing, way: TrainConfig, train: TrainConfig) -> str:
    said = [] if sharing == "keep" else [f"the engine {_MEANWHILE[sharing]} meanwhile"]
    if way.batch_size != train.batch_size:
        said.append(f"{way.batch_size} of {train.batch_size} rows at once, for the same gradients")
    if way.gradient_checkpointing != train.gradient_checkpointing:
        said.append("activations are computed again instead of kept")
    return f"so that training has memory enough: {', '.join(said)}" if said else ""


def _pieces(train: TrainConfig, checkpointing: bool) -> Iterator[TrainConfig]:
    """The same training with fewer and fewer rows at once."""
    times, size = train.gradient_accumulation_steps, train.batch_size
    while True:
        yield train.model_copy(
            update={
                "batch_size": size,
                "gradient_accumulation_steps": times * train.batch_size // size,
                "gradient_checkpointing": checkpointing,
            }
        )
        if size % 2:
            return
        size //= 2
