"""A folder of weights that whatever trainer has saved becomes one that an engine can verify."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from engine.errors import InputError
from engine.pools.opening import open_pool
from engine.prompts import PromptBuilder
from engine.protocol.completions import TokenPair
from engine.weights.adapter import ADAPTER_CONFIG, read_adapter, read_config
from engine.weights.checkpoint_check import check_finite, check_nothing_runs, read_tensors
from engine.weights.manifest import MANIFEST_NAME, Manifest, Precision, Probe, read_manifest
from engine.weights.models import local_folder
from engine.weights.probing import probe_logprobs, text_pairs
from engine.weights.publishing import appearing, describe, link_or_copy, published_files, seal
from training.config.run_config import RunConfig
from training.trainer.training_rows import build_rows, choose_probes

_PROBE_TOKENS = 1024  # prompts of a pool that are longer would take long


@dataclass(frozen=True)
class ProbeSettings:
    """How the probes of a folder are made.

    Attributes:
        pool: Whose prompts and outputs they are, see `engine.pools.opening.open_pool`; None: some
            sentences.
        base: Of an adapter the model it belongs to; None: what its config says.
        device: Where transformers computes; None: CUDA where the weights fit in, else the CPU.
        trust_remote_code: Whether code that comes with the model may run.
    """

    pool: str | None = None
    base: str | None = None
    device: str | None = None
    trust_remote_code: bool = False


def publish_folder(
    folder: Path,
    target: Path | None = None,
    *,
    settings: ProbeSettings | None = None,
    name: str | None = None,
    copy: bool = False,
) -> Manifest:
    """Publish a checkpoint or an adapter that transformers or peft can load.

    What it holds is proved by log-probabilities that transformers computes, of a checkpoint in its
    own precision, of an adapter in float32, as the engine merges it.

    Args:
        target: A new folder for it, with hard links to the files; None: where it is.
        name: What its version begins with; None: the folder's name.
        copy: Copy the files instead, if the trainer is going to write them again.

    Raises:
        InputError: If it is published already or cannot be loaded; nothing was written then.
    """
    settings = settings or ProbeSettings()
    files = published_files(folder)
    if (folder / MANIFEST_NAME).is_file():
        raise InputError(f"is published already: {read_manifest(folder).version}", file=folder)
    if target is None:
        check_nothing_runs(folder, folder)
    elif target.exists():
        raise InputError("is there already; name another folder", file=target)
    prefix = name or re.sub(r"[^\w.-]+", "-", folder.resolve().name)
    check_finite(folder)
    base, dtype, probes = _prove(folder, settings)

    def make(place: Path) -> Manifest:
        manifest = describe(place, prefix, base_model=base, dtype=dtype, probes=probes)
        seal(place, manifest)
        return manifest

    if target is None:
        return make(folder)
    with appearing(target) as place:
        for file in files:
            link_or_copy(file, place / file.name, copy=copy)
        return make(place)


def _prove(folder: Path, settings: ProbeSettings) -> tuple[str, Precision, tuple[Probe, ...]]:
    """The model that a checkpoint came from, the precision of its probes, and the probes."""
    adapter = (folder / ADAPTER_CONFIG).is_file()
    base = _base(folder, settings) if adapter else str(folder.resolve())
    source = local_folder(base)
    model = load(source, "float32" if adapter else "auto", settings)
    dtype = str(model.dtype).removeprefix("torch.")
    if dtype not in get_args(Precision):
        raise InputError(f"holds weights in {dtype}, which cannot be verified", file=folder)
    if adapter:
        model = _merge(model, folder)
    pairs = _pairs(folder if _has_tokenizer(folder) else source, model, settings)
    model.to(settings.device or _device(folder if not adapter else source))
    return base, cast("Precision", dtype), probe_logprobs(model, pairs)


def load(folder: Path, dtype: str, settings: ProbeSettings) -> Any:
    """The model of a folder in transformers, in eval mode.

    Raises:
        InputError: If transformers cannot load it, or the folder lacks a tensor of it.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    load_pretrained: Any = AutoModelForCausalLM.from_pretrained

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        model, told = load_pretrained(
            folder,
            dtype=dtype,
            trust_remote_code=settings.trust_remote_code,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are told below
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"transformers cannot load it: {reason}", file=folder) from error
    for missing in sorted(told["missing_keys"]):
        raise InputError("the tensor is missing", file=folder, record=missing)
    for unfit, found, wanted in sorted(told["mismatched_keys"], key=str):
        problem = f"has shape {list(found)}, the config wants {list(wanted)}"
        raise InputError(problem, file=folder, record=unfit, field="shape")
    return model.eval()


def _base(folder: Path, settings: ProbeSettings) -> str:
    extra = read_config(folder).model_extra or {}
    base = settings.base or str(extra.get("base_model_name_or_path") or "")
    if not (base and local_folder(base).is_dir()):
        problem = f"its base model {base or '(none named)'} is not here; name it with --base"
        raise InputError(problem, file=folder)
    return base


def _merge(model: Any, folder: Path) -> Any:
    """The base model with the adapter in it; by peft, which knows nothing of our own merging."""
    from peft import PeftModel

    known = {name.removesuffix(".weight") for name in read_tensors(Path(model.name_or_path))}
    for change in read_adapter(folder).values():
        if change.module not in known:
            raise InputError("the base model has no such module", file=folder, record=change.module)
    return PeftModel.from_pretrained(model, str(folder)).merge_and_unload()


def _has_tokenizer(folder: Path) -> bool:
    return any(folder.glob("tokenizer*")) or any(folder.glob("vocab*"))


def _pairs(folder: Path, model: Any, settings: ProbeSettings) -> Sequence[TokenPair]:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=settings.trust_remote_code, local_files_only=True
        )
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"its tokenizer cannot be loaded: {reason}", file=folder) from error
    pairs: Sequence[TokenPair]
    if settings.pool is None:
        pairs = text_pairs(functools.partial(_encode, tokenizer, folder))
    else:
        pairs = _pool_pairs(settings.pool, tokenizer, model)
    size = model.get_input_embeddings().num_embeddings
    if max(max(*each.prompt_token_ids, *each.completion_token_ids) for each in pairs) >= size:
        raise InputError(f"its tokenizer has ids that its {size} embeddings lack", file=folder)
    return pairs


def _encode(tokenizer: Any, folder: Path, text: str) -> list[int]:
    ids = tokenizer.encode(text, add_special_tokens=False)
    if not ids:
        raise InputError("its tokenizer makes no tokens of plain text", file=folder)
    return list(ids)


def _pool_pairs(pool: str, tokenizer: Any, model: Any) -> Sequence[TokenPair]:
    longest = getattr(model.config, "max_position_embeddings", None) or _PROBE_TOKENS
    config = RunConfig.model_validate(
        {
            "model": {"max_model_len": min(longest, _PROBE_TOKENS)},
            "train": {"instances_per_task": 1},
        }
    )
    builder = PromptBuilder(tokenizer, config.score.prompt, config.model.max_model_len)
    tasks, problem = [], InputError("holds no task", file=pool)
    for task in open_pool(pool):
        try:
            tasks.append(build_rows([task], builder, config).frame)
        except InputError as error:  # no gold output, or none that is short enough
            problem = error
        if len(tasks) == 8:
            break
    if not tasks:
        raise problem
    import polars as pl

    return choose_probes(pl.concat(tasks))


def _device(folder: Path) -> str:
    import torch

    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    if torch.cuda.is_available() and torch.cuda.mem_get_info()[0] > 1.5 * size:
        return "cuda"
    return "cpu"
