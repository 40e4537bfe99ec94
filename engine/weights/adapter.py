"""A published low-rank adapter: what its files say, and the base weights with it merged in.

The folder is what peft saves: `adapter_config.json` and `adapter_model.safetensors`, a pair of
matrices A (rank, inputs) and B (outputs, rank) for each weight W (outputs, inputs) that it changes.
Merged, W becomes W + scaling * B A (Hu et al., 2021, arXiv 2106.09685), always from the base
model's own W: adapters loaded one after the other leave nothing of each other behind.

An engine could also keep adapters beside the weights and add them in every step; merged, scoring
costs what it costs without them, and it works wherever whole weights can be loaded.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from engine.errors import InputError
from engine.validation import first_fault
from engine.weights.manifest import read_safetensors_header

if TYPE_CHECKING:
    from torch import Tensor

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"

_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<half>[AB])\.weight")

# Keys that say where the adapter comes from or how it was trained, not what it means.
_INCIDENTAL = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "revision",
        "inference_mode",
        "lora_dropout",
        "task_type",
        "megatron_core",
        "peft_version",
        "qalora_group_size",
        "runtime_config",
        "target_modules",
        "exclude_modules",
        "layers_to_transform",
        "layers_pattern",
    }
)

# Other ways to begin change the base weights too, which the adapter's file does not hold.
_PLAIN_STARTS = (True, False, "gaussian", "orthogonal", "eva")


class AdapterConfig(BaseModel):
    """The part of peft's `adapter_config.json` that decides what the matrices mean.

    Attributes:
        peft_type: `LORA`.
        r: Rank, unless `rank_pattern` says otherwise.
        lora_alpha: Scale, unless `alpha_pattern` says otherwise.
        rank_pattern: Rank by regular expression for the end of a module's name.
        alpha_pattern: Scale likewise.
        use_rslora: Divide the scale by the root of the rank, not by the rank.
        bias: Which biases were trained; none is all that can be merged.
        init_lora_weights: How the matrices were filled at first.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    peft_type: str
    r: Annotated[int, Field(ge=1)]
    lora_alpha: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    rank_pattern: dict[str, Annotated[int, Field(ge=1)]] = {}
    alpha_pattern: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = {}
    use_rslora: bool = False
    bias: str = "none"
    init_lora_weights: bool | str = True

    @field_validator("rank_pattern", "alpha_pattern")
    @classmethod
    def _compile(cls, patterns: dict[str, float]) -> dict[str, float]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
        return patterns

    @property
    def digest(self) -> str:
        """sha256 of all of it that decides what the matrices mean, 64 hex digits."""
        known = self.model_dump(mode="json", include=set(AdapterConfig.model_fields))
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()

    def rank(self, module: str) -> int:
        """Rank of a module's matrices."""
        return self.rank_pattern.get(_pattern(self.rank_pattern, module), self.r)

    def scaling(self, module: str) -> float:
        """What the product of a module's matrices is multiplied by."""
        alpha = self.alpha_pattern.get(_pattern(self.alpha_pattern, module), self.lora_alpha)
        rank = self.rank(module)
        return alpha / math.sqrt(rank) if self.use_rslora else alpha / rank


@dataclass(frozen=True, slots=True)
class LowRank:
    """What one weight is changed by.

    Attributes:
        module: Name of the module, as the base model has it.
        a: Name of A in the adapter's file.
        b: Name of B.
        scaling: What B A is multiplied by.
    """

    module: str
    a: str
    b: str
    scaling: float


def read_config(folder: Path) -> AdapterConfig:
    """The adapter's config.

    Raises:
        InputError: If it cannot be read, or asks for anything that B A with a scale is not.
    """
    file = folder / ADAPTER_CONFIG
    try:
        raw = json.loads(file.read_bytes())
        config = AdapterConfig.model_validate(raw)
    except FileNotFoundError:
        raise InputError("holds no adapter_config.json", file=folder) from None
    except ValidationError as error:
        problem, field = first_fault(error)
        raise InputError(problem, file=file, field=field) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"cannot be read: {error}", file=file) from error
    for key, unfit in (
        ("peft_type", config.peft_type != "LORA"),
        ("bias", config.bias != "none"),
        ("init_lora_weights", config.init_lora_weights not in _PLAIN_STARTS),
    ):
        if unfit:
            raise InputError(f"is {raw.get(key)!r}, which cannot be merged", file=file, field=key)
    # Whatever else peft knows now or will know is off when its value is empty.
    for key in sorted(raw.keys() - _INCIDENTAL - AdapterConfig.model_fields.keys()):
        if raw[key]:
            raise InputError(f"is {raw[key]!r}, which cannot be merged", file=file, field=key)
    return config


def read_adapter(folder: Path) -> dict[str, LowRank]:
    """The changes of an adapter, by name of the base model's tensor.

    Raises:
        InputError: If a name in its file is none of a pair, or one half of a pair is missing.
    """
    config = read_config(folder)
    halves: dict[str, dict[str, str]] = {}
    for entry in read_safetensors_header(folder / ADAPTER_WEIGHTS):
        match = _KEY.fullmatch(entry.name)
        if match is None:
            raise InputError(
                "is no matrix of a low-rank pair, and nothing else can be merged",
                file=folder / ADAPTER_WEIGHTS,
                record=entry.name,
            )
        halves.setdefault(match["module"], {})[match["half"]] = entry.name
    for module, names in sorted(halves.items()):
        for half in sorted({"A", "B"} - names.keys()):
            raise InputError(f"has no lora_{half}", file=folder / ADAPTER_WEIGHTS, record=module)
    return {
        f"{module}.weight": LowRank(module, names["A"], names["B"], config.scaling(module))
        for module, names in halves.items()
    }


def merged(
    tensors: Iterable[tuple[str, Tensor]], folder: Path, device: Any = "cpu"
) -> Iterator[tuple[str, Tensor]]:
    """The base model's tensors, those that the adapter changes in float32 with the change added.

    Args:
        tensors: Names and tensors of the base model, in any order.

    Yields:
        Name and tensor, in the same order; one tensor at a time is in memory.

    Raises:
        InputError: If a tensor that the adapter changes has not come by.
    """
    from safetensors import safe_open

    changes = read_adapter(folder)
    seen = set()
    with safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as matrices:
        for name, tensor in tensors:
            seen.add(name)
            change = changes.get(name)
            if change is None:
                yield name, tensor
                continue
            a = matrices.get_tensor(change.a).to(device).float()
            b = matrices.get_tensor(change.b).to(device).float()
            yield name, tensor.to(device).float() + (b @ a) * change.scaling
    for name in sorted(changes.keys() - seen):
        raise InputError("the base model has no such tensor", file=folder, record=name)


def _pattern(patterns: Iterable[str], module: str) -> str:
    """The first pattern that fits the end of a module's name, as peft looks for it."""
    return next((each for each in patterns if re.match(rf"(.*\.)?({each})$", module)), module)
