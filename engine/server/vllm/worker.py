"""What runs inside vLLM's worker processes: loading weights completely, or not at all.

Registered as a general plugin, so that every vLLM process of the server loads it.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from engine.process.engine_process import PARENT_VARIABLE
from engine.process.lifetime import die_with
from engine.process.settings import BOUNDED_HITS_VARIABLE
from engine.server.vllm.patched_vllm import (
    CAST_WARNING,
    INTERRUPTED_LOADS,
    OUTPUT_ROWS_V2,
    UNLOADED_WARNING,
    unfit,
)
from engine.weights.adapter import merged
from engine.weights.models import local_folder

logger = logging.getLogger("vllm.jostle")

LOAD_METHOD = "jostle_load_weights"
OUTPUT_ROWS_METHOD = "jostle_output_rows"
SHARED_TAILS_METHOD = "jostle_shared_tails"
SEEDED_DRAWS_METHOD = "jostle_seeded_draws"
"""Names of the worker methods for `collective_rpc`."""

_START = "_jostle_started_on"


def register() -> None:
    """Entry point `vllm.general_plugins`: gives the workers their methods, the engine its bound.

    Safe to call again.
    """
    parent = multiprocessing.parent_process()
    ours = PARENT_VARIABLE in os.environ  # the plugin is loaded by every vLLM of the environment
    if ours and parent and parent.pid and multiprocessing.get_start_method() != "forkserver":
        die_with(parent.pid)  # vLLM's engine and workers would survive a server that is killed
    from vllm.v1.worker.worker_base import WorkerBase

    from engine.server.vllm import bounded_hits, shared_hashes

    if os.environ.get(BOUNDED_HITS_VARIABLE) != "0" and (reason := bounded_hits.install()):
        logger.warning("pairs whose output is cached are computed twice: %s", reason)
    if reason := shared_hashes.install():
        logger.warning("the blocks of shared prefixes are hashed again and again: %s", reason)
    setattr(WorkerBase, LOAD_METHOD, load_weights)
    setattr(WorkerBase, OUTPUT_ROWS_METHOD, switch_output_rows)
    setattr(WorkerBase, SHARED_TAILS_METHOD, install_shared_tails)
    setattr(WorkerBase, SEEDED_DRAWS_METHOD, install_seeded_draws)


def switch_output_rows(worker: Any, on: bool) -> str | None:
    """Installs or removes the output-rows-only path; why it could not be installed, or None."""
    from engine.server.vllm import output_rows

    rows: Any = output_rows
    runner = worker.model_runner
    if hasattr(runner, "prompt_logprobs_worker"):
        if reason := unfit(OUTPUT_ROWS_V2):
            return reason
        from engine.server.vllm import output_rows_v2

        rows = output_rows_v2
    if on:
        return cast("str | None", rows.install(runner))
    rows.uninstall(runner)
    return None


def install_shared_tails(worker: Any) -> str | None:
    """Installs the sharing of tails; why it could not be installed, or None."""
    from engine.server.vllm import shared_tails

    return shared_tails.install(worker.model_runner)


def install_seeded_draws(worker: Any) -> str | None:
    """Lets seeded requests be cut on a CPU; why it could not be installed, or None."""
    from engine.server.vllm import seeded_draws

    return seeded_draws.install(worker.model_runner)


def load_weights(worker: Any, path: str, adapter: str | None = None) -> None:
    """Loads a checkpoint into the live model of this worker.

    Args:
        worker: The vLLM worker this is a method of.
        adapter: Folder of an adapter to merge into it on the way; None: none.

    Raises:
        Exception: Whatever vLLM raises, or what the engine's other workers have met; the model then
            serves nothing until the next good load.
    """
    groups = _own_ranks(worker)
    if not groups:
        _load(worker, path, adapter)
        return
    fault = None
    try:
        _load(worker, path, adapter)
    except Exception as error:  # the other ranks wait to hear of it
        logger.exception("loading %s failed", path)
        fault = f"{type(error).__name__}: {error}"
    _tell(groups, fault)


def _own_ranks(worker: Any) -> list[Any]:
    """The groups that together hold the ranks of this worker's engine; none where it is alone."""
    from vllm.distributed import parallel_state

    n_ranks = worker.parallel_config.world_size
    if n_ranks == 1:
        return []
    world = parallel_state.get_world_group()
    if world.world_size == n_ranks:
        return [world]
    # Of a model of experts it spans the engines of all data-parallel servers; one alone was asked.
    return [
        parallel_state.get_tp_group(),
        parallel_state.get_pcp_group(),
        parallel_state.get_pp_group(),
    ]


def _tell(groups: Sequence[Any], fault: str | None) -> None:
    """Raises what any rank has met, in the last one alone.

    vLLM reads the answers of an engine's ranks one by one and stops at a failure. Those behind it
    would stay unread, and be taken for answers to the next call.
    """
    import torch

    for ranks in groups:
        faults: list[str | None] = [None] * ranks.world_size
        torch.distributed.all_gather_object(faults, fault, group=ranks.cpu_group)
        fault = "; ".join(f"rank {rank}: {each}" for rank, each in enumerate(faults) if each)
    if fault and all(ranks.rank_in_group == ranks.world_size - 1 for ranks in groups):
        raise RuntimeError(fault)


def _load(worker: Any, path: str, adapter: str | None) -> None:
    model, config = worker.model_runner.get_model(), worker.vllm_config.model_config
    if not hasattr(worker, _START):  # vLLM changes the config with each load
        setattr(worker, _START, local_folder(config.model, config.revision))
    _forget_interrupted_load(model)
    unloaded: set[str] = set()
    with _packed_experts(model), _quiet_load(unloaded):
        if adapter is None:
            worker.reload_weights(weights_path=path)
        else:
            tensors = merged(_tensors(worker, model, path), Path(adapter), worker.device)
            worker.reload_weights(weights_iterator=tensors)
    _repack_tied_head(model)
    left = sorted(unloaded & {type(layer).__name__ for layer in _with_own_weights(model)})
    # On what the engine was started with they are what they ought to be.
    if left and Path(path).resolve() != getattr(worker, _START).resolve():
        raise RuntimeError(
            f"vLLM did not load {', '.join(left)} of this model, whose loader writes past what a "
            "reload notices; start the engine on these weights"
        )


@contextlib.contextmanager
def _packed_experts(model: Any) -> Iterator[None]:
    """Has the experts that arrive packed, as those before were.

    The CPU kernels multiply with packed experts. vLLM packs them where it makes a layer's kernel,
    once; what arrives later would lie unpacked where the kernel expects it packed.
    """
    kernels = []
    for module in model.modules():
        method: Any = getattr(module, "quant_method", None)
        weight = getattr(module, "w13_weight", None)
        if hasattr(method, "moe_kernel") and weight is not None and weight.device.type == "cpu":
            kernels.append((method, method.moe_kernel))
            method.moe_kernel = None
    try:
        yield
    finally:
        for method, kernel in kernels:
            if method.moe_kernel is None:  # nothing arrived
                method.moe_kernel = kernel


def _with_own_weights(model: Any) -> Iterator[Any]:
    """The modules that hold weights which none before them holds: no head that is tied."""
    held: set[int] = set()
    for module in model.modules():
        own = {id(each) for each in module._parameters.values() if each is not None} - held
        held |= own
        if own:
            yield module


@contextlib.contextmanager
def _quiet_load(unloaded: set[str]) -> Iterator[None]:
    """Keeps back what vLLM warns of at every good load: one line for all tensors that are cast.

    Args:
        unloaded: Gets the classes of the layers that no weights came for.
    """
    casts: dict[str, int] = {}

    def is_cast(record: logging.LogRecord) -> bool:
        if record.msg != CAST_WARNING[1] or not isinstance(record.args, tuple):
            return True
        _, stored, held = record.args
        kinds = f"{stored} to {held}".replace("torch.", "")
        casts[kinds] = casts.get(kinds, 0) + 1
        return False

    def is_unloaded(record: logging.LogRecord) -> bool:
        if record.msg != UNLOADED_WARNING[1] or not isinstance(record.args, tuple):
            return True
        unloaded.add(str(record.args[0]))
        return False

    with contextlib.ExitStack() as stack:
        for name, keep in ((CAST_WARNING[0], is_cast), (UNLOADED_WARNING[0], is_unloaded)):
            source = logging.getLogger(name)
            stack.callback(source.setLevel, source.level)
            source.setLevel(logging.WARNING)  # what is not logged reaches no filter
            source.addFilter(keep)
            stack.callback(source.removeFilter, keep)
        yield
    for kinds, count in casts.items():
        logger.info("%d tensors were cast from %s", count, kinds)


def _tensors(worker: Any, model: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The tensors of a checkpoint as vLLM would read them itself, under transformers' names."""
    from vllm.model_executor.model_loader import get_model_loader

    config = copy.copy(worker.vllm_config.model_config)
    config.model, config.model_weights, config.revision = path, "", None
    load = copy.copy(worker.vllm_config.load_config)
    if load.load_format == "auto":  # it would take Mistral's own files where both are there
        load.load_format = "hf"
    loader: Any = get_model_loader(load)
    return iter(loader.get_all_weights(config, model))


def _forget_interrupted_load(model: Any) -> None:
    """Puts back what an earlier, failed load has left half done.

    vLLM keeps the tensors that were buffered before a failure and replays them with the next load,
    so that a good checkpoint would not heal a bad one.
    """
    if reason := unfit(INTERRUPTED_LOADS):
        logger.warning("a load that fails half way is healed by a restart only: %s", reason)
        return
    from vllm.model_executor.model_loader.reload import layerwise

    for module in model.modules():
        info = layerwise.get_layerwise_info(module)
        if info.can_load():
            if info.kernel_tensors is not None:
                layerwise._place_kernel_tensors(module, info)
            info.reset()  # type: ignore[no-untyped-call]
    layerwise.LOADING_LAYERS.clear()


def _repack_tied_head(model: Any) -> None:
    """Packs an output projection that shares its weight with the embeddings once more.

    The CPU kernels multiply with a packed copy of the weight. vLLM repacks a layer when its own
    weights arrive; the ones of a tied head arrive as the embeddings', and the copy stays stale.
    """
    for name, head in model.named_modules():
        if name.rpartition(".")[2] != "lm_head":  # of a model of several parts inside one of them
            continue
        weight = getattr(head, "weight", None)
        if weight is not None and weight.device.type == "cpu":
            head.quant_method.process_weights_after_loading(head)
