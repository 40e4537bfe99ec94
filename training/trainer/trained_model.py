"""How weights leave the memory of a trainer: gathered, copied, written as files."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, GenerationConfig

from engine.errors import InputError
from engine.weights.adapter import read_config
from engine.weights.checkpoint_check import weight_names
from engine.weights.models import local_folder
from engine.weights.publishing import PROCESSOR_FILES, TOKENIZER_FILES

_KEPT_FILES = ("generation_config.json", *PROCESSOR_FILES, *TOKENIZER_FILES)


def is_sharded(model: Any) -> bool:
    """Whether FSDP or DeepSpeed's ZeRO-3 has spread the weights over processes."""
    return _is_fsdp(model) or any(hasattr(each, "ds_id") for each in model.parameters())


def _is_fsdp(model: Any) -> bool:
    from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel

    return isinstance(model, FSDPModule | FullyShardedDataParallel)


def gather_state(model: Any, *, first: bool, part: str = "") -> dict[str, Tensor] | None:
    """Copies of a model's weights on the CPU, whole; None but in the first process.

    Where they are spread over processes, each of them has to call this.

    Args:
        model: A model of transformers or peft, as a trainer has wrapped it.
        first: Whether this is the first process.
        part: Part of the names of those that are wanted.
    """
    state: Any
    if _is_fsdp(model):
        state = _gather_fsdp(model)
    elif is_sharded(model):
        state = _gather_zero3(model, part)
    else:
        state = model.state_dict()
    return copied({name: state[name] for name in state if part in name}) if first else None


def copied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU; names that share a tensor share its copy."""
    copies: dict[tuple[Any, ...], Tensor] = {}
    found = {}
    for name, tensor in state.items():
        key = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if key not in copies or not tensor.numel():
            copies[key] = tensor.detach().to("cpu", copy=True)
        found[name] = copies[key]
    return found


def _gather_fsdp(model: Any) -> Any:
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return get_model_state_dict(model, options=options)


def _gather_zero3(model: Any, part: str) -> Mapping[str, Tensor]:
    """One parameter at a time; those of a module together would not fit on one device."""
    from deepspeed.zero import GatheredParameters  # type: ignore[import-not-found]

    state = dict(model.named_buffers())
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if part in name:
            with GatheredParameters([parameter]):
                state[name] = parameter.detach().to("cpu", copy=True)
    return {name: state[name] for name in model.state_dict() if name in state}


def cast(model: Any, dtype: torch.dtype) -> None:
    """Cast a model as transformers loads it in this type: no buffers, such as the frequencies of
    rotary embeddings, and no parameters that it keeps in float32.
    """
    kept: Mapping[str, Any] = getattr(model, "_get_dtype_plan", lambda _: {})(dtype)
    patterns = [pattern.replace("*", ".*") for pattern in kept]
    for name, parameter in model.named_parameters():
        floating = parameter.is_floating_point()
        if floating and not any(re.search(pattern, name) for pattern in patterns):
            parameter.data = parameter.data.to(dtype)


def save_model_files(
    model: Any,
    folder: Path,
    base: str,
    *,
    state: Mapping[str, Tensor] | None = None,
    tokenizer: Any = None,
    trust_remote_code: bool = False,
) -> None:
    """Write weights, config and tokenizer as a checkpoint.

    Args:
        base: What the model came from. If it is a folder, the tokenizer's files are copied from it,
            and its generation config: TRL changes both in memory. Those of a processor are copied
            wherever it lies.
        state: Weights to write in place of those in memory.
        tokenizer: Written where `base` is no folder; None: the one of that name.
    """
    # save_pretrained refuses generation configs that from_pretrained takes. A twin has another one:
    # a training may be using the model. FSDP's classes cannot be copied.
    twin = object.__new__(type(model))
    vars(twin).update(vars(model), generation_config=GenerationConfig())  # type: ignore[no-untyped-call]
    twin.save_pretrained(folder, state_dict=None if state is None else dict(state))
    if model.can_generate():
        file = folder / "generation_config.json"
        model.generation_config.to_json_file(file, keys_to_pop=["compile_config"])
    kept: tuple[str, ...] = _KEPT_FILES
    if not (base and Path(base).is_dir()):
        kept = PROCESSOR_FILES if base else ()
        tokenizer = tokenizer or AutoTokenizer.from_pretrained(
            base, trust_remote_code=trust_remote_code
        )
        tokenizer.save_pretrained(folder)
    for pattern in kept:
        for source in local_folder(base).glob(pattern):
            if source.is_file():
                shutil.copyfile(source, folder / source.name)


def active_adapter(model: Any) -> str:
    """Name of a peft model's adapter: others may lie beside it, such as TRL's frozen `ref`.

    Raises:
        InputError: If not exactly one is active.
    """
    found = model.active_adapters
    names = found() if callable(found) else found  # it is a method of transformers' own models
    if len(names) != 1:
        problem = f"has {len(names)} active adapters, of which one can be loaded"
        raise InputError(problem, field="model")
    return str(names[0])


def check_mergeable(model: Any, base: str) -> None:
    """That an engine can merge a peft model's active adapter into its base, as far as can be told.

    Args:
        base: Folder or hub id, whose names of weights are those of the adapter's modules unless
            transformers has renamed them.

    Raises:
        InputError: If the adapter is of a kind that cannot be merged, or the files of the base hold
            no weight of a module's name.
    """
    adapter = active_adapter(model)
    try:
        with tempfile.TemporaryDirectory(prefix="jostle-") as folder:
            model.peft_config[adapter].save_pretrained(folder)
            read_config(Path(folder))
    except InputError as error:
        raise InputError(error.problem, record="the adapter", field=error.field) from error
    known = weight_names(local_folder(base)) if base else None
    bare = model.get_base_model() if hasattr(model, "get_base_model") else model
    for name, layer in bare.named_modules():
        # What spreads a model over processes wraps its modules in some of names like `_wrapped`.
        module = ".".join(part for part in name.split(".") if not part.startswith("_"))
        if adapter in getattr(layer, "lora_embedding_A", ()):
            raise InputError("is an embedding, whose adapter cannot be merged", record=module)
        if adapter in getattr(layer, "lora_A", ()) and known and f"{module}.weight" not in known:
            problem = "has no weight of its name in the model's files; its adapter cannot be merged"
            raise InputError(problem, record=module)


def save_adapter_files(
    model: Any, folder: Path, name: str, *, state: Mapping[str, Tensor] | None = None
) -> None:
    """Write an adapter of a peft model, without the weights it belongs to."""
    told = {} if state is None else {"state_dict": dict(state)}
    model.save_pretrained(folder, selected_adapters=[name], save_embedding_layers=False, **told)
    (folder / "README.md").unlink(missing_ok=True)  # a form that nobody has filled in
    own = folder / name  # where peft writes one that is not called "default"
    if own.is_dir():
        for file in own.iterdir():
            file.rename(folder / file.name)
        own.rmdir()


def unwrapped(model: Any) -> Any:
    """The model itself, out of what distributed training has put around it."""
    from accelerate.utils import extract_model_from_parallel  # type: ignore[import-untyped]

    return extract_model_from_parallel(model, keep_fp32_wrapper=True, keep_torch_compile=False)
