"""The private names of vLLM that we replace or build on, all of them, and for which versions.

Each was read in the sources of the versions in `engine.process.settings.SUPPORTED_VLLM`. On any
other one, or where a name is gone, what builds on it stays off, and the log says so in one line.
"""

from __future__ import annotations

import operator
from importlib import import_module

from engine.process.settings import SUPPORTED_VLLM

_ADAPTERS = "vllm.lora.layers.logits_processor:LogitsProcessorWithLoRA._get_logits"

OUTPUT_ROWS = (
    "vllm.v1.worker.gpu_model_runner:GPUModelRunner._get_prompt_logprobs_dict",
    _ADAPTERS,
)
"""Replaced by `engine.server.vllm.output_rows`, the second for the time of a projection."""

OUTPUT_ROWS_V2 = (
    *(
        f"vllm.v1.worker.gpu.sample.prompt_logprob:PromptLogprobsWorker.{name}"
        for name in ("add_request", "remove_request", "compute_prompt_token_id_logprobs")
    ),
    "vllm.v1.worker.gpu.async_utils:AsyncOutput",
    "vllm.utils.torch_utils:async_tensor_h2d",
    _ADAPTERS,
)
"""Extended by `engine.server.vllm.output_rows_v2`, which relies on when the fourth waits for what
and calls the fifth; the last as above."""

SEEDED_DRAWS = ("vllm.v1.worker.gpu_model_runner:GPUModelRunner._bookkeeping_sync",)
"""Wrapped by `engine.server.vllm.seeded_draws`."""

BOUNDED_HITS = ("vllm.v1.core.kv_cache_manager:KVCacheManager.get_computed_blocks",)
"""Replaced by `engine.server.vllm.bounded_hits`."""

DIRECT_REQUESTS = (
    *(
        f"vllm.v1.engine.async_llm:AsyncLLM.{name}"
        for name in ("_run_output_handler", "add_request", "generate", "check_admission")
    ),
    "vllm.v1.engine.input_processor:InputProcessor.assign_request_id",
    "vllm.v1.engine.output_processor:RequestOutputCollector.put",
)
"""What `engine.server.vllm.direct_requests` does in the place of; it calls the first."""

SHARED_HASHES = (
    "vllm.v1.engine.core:get_request_block_hasher",
    "vllm.v1.core.kv_cache_utils:generate_block_hash_extra_keys",
)
"""The first is replaced by `engine.server.vllm.shared_hashes`; the second tells what else goes
into a hash."""

SHARED_TAILS = (
    "vllm.v1.core.kv_cache_utils:generate_block_hash_extra_keys",
    "vllm.v1.core.single_type_kv_cache_manager:FullAttentionManager",
)
"""Read by `engine.server.vllm.shared_tails`."""

BLOCK_COPIES = ("vllm.v1.attention.backends.cpu_attn:CPUAttentionBackendImpl.do_kv_cache_update",)
"""Replaced by `engine.server.vllm.tail_copies` on a CPU."""

SLOT_COPIES = (
    "vllm.model_executor.layers.attention.attention:unified_kv_cache_update",
    "vllm.model_executor.layers.attention.kv_transfer_utils:maybe_transfer_kv_layer",
    "vllm.utils.torch_utils:async_tensor_h2d",
)
"""What `engine.server.vllm.tail_copies` leans on elsewhere: a layer's cache is updated before the
connector is called, which is before its attention. It calls the last."""

INTERRUPTED_LOADS = tuple(
    f"vllm.model_executor.model_loader.reload.layerwise:{name}"
    for name in ("get_layerwise_info", "_place_kernel_tensors", "LOADING_LAYERS")
)
"""Called by `engine.server.vllm.worker` to heal what a failed load has left."""

CAST_WARNING = (
    "vllm.model_executor.models.utils",
    "Attempted to load weight %s with dtype %s into parameter with dtype %s",
)
UNLOADED_WARNING = (
    "vllm.model_executor.model_loader.reload.layerwise",
    "%s: Failed to load weights",
)
"""Loggers and messages that `engine.server.vllm.worker` keeps back: a checkpoint in float32 for an
engine in half precision, and layers that no weights came for."""


def unfit(names: tuple[str, ...]) -> str | None:
    """Why what builds on these names must stay off here; None if it need not."""
    import vllm

    if not vllm.__version__.startswith(SUPPORTED_VLLM):
        known = ", ".join(f"{prefix}x" for prefix in SUPPORTED_VLLM)
        return f"vLLM {vllm.__version__} is not among the versions it was written for ({known})"
    for name in names:
        module, _, attribute = name.partition(":")
        try:
            operator.attrgetter(attribute)(import_module(module))
        except (ImportError, AttributeError):
            return f"vLLM {vllm.__version__} has no {name}"
    return None
