"""What a worker does so that a block holds the tokens that another block begins with.

A token's source may have been computed in an earlier step, or is computed in the very step that
copies it. There are two ways, by how the attention lays a block out:

- Where every token has a slot of its own (vLLM's attention on CUDA), all slots are copied in each
  layer, between its update of the cache and its attention.
- vLLM's CPU attention packs the keys of a block together. So a source of an earlier step is copied
  with its whole block before the forward pass, and the keys and values of one of this step are
  written to both places by the layer's own update, which is extended for it.

Copies are exact: what is read is what the other request reads.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorMetadata
from vllm.utils.torch_utils import async_tensor_h2d

from engine.server.vllm.patched_vllm import BLOCK_COPIES, SLOT_COPIES, unfit

_UPDATE = "do_kv_cache_update"
_STOCK = "_jostle_stock_kv_cache_update"

_OF_SLOTS = ("FlashAttentionImpl", "TritonAttentionImpl")
"""Attention whose cache has the shape (blocks, heads, tokens of a block, keys and values)."""


@dataclass(slots=True)
class Copies(KVConnectorMetadata):
    """What the workers copy in a step, in this order: slots of the cache, one per token."""

    block_size: int = 0
    sources: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)


class Copier(Protocol):
    """A way to copy."""

    def begin(self, copies: Copies, forward_context: Any) -> None:
        """Called before the forward pass of a step that has copies."""

    def layer(self, name: str) -> None:
        """Called in each layer of every step, between its update of the cache and its attention."""

    def end(self) -> None:
        """Called after the forward pass."""


class SlotCopies:
    """Copies slot by slot, in each layer.

    Args:
        caches: Of each layer, of shape (blocks, heads, tokens of a block, keys and values).
        device: Where they lie.
    """

    def __init__(self, caches: Mapping[str, torch.Tensor], device: torch.device) -> None:
        self._caches, self._device = caches, device
        self._places: tuple[torch.Tensor, ...] | None = None
        self._left: set[int] = set()

    def begin(self, copies: Copies, forward_context: Any) -> None:
        """See `Copier`."""
        slots = np.array([copies.sources, copies.targets], dtype=np.int64)
        places = np.concatenate(np.divmod(slots, copies.block_size))
        self._places = tuple(async_tensor_h2d(places, self._device))
        self._left = {cache.data_ptr() for cache in self._caches.values()}

    def layer(self, name: str) -> None:
        """See `Copier`."""
        if self._places is not None:
            from_block, to_block, from_place, to_place = self._places
            cache = self._caches[name]
            cache[to_block, :, to_place] = cache[from_block, :, from_place]
            self._left.discard(cache.data_ptr())  # layers may share one

    def end(self) -> None:
        """See `Copier`.

        Raises:
            RuntimeError: If vLLM did not call every layer, so that not all was copied: the step's
                numbers are wrong, and nobody may read what it left in the cache.
        """
        missed, self._places, self._left = len(self._left), None, set()
        if missed and sys.exc_info()[0] is None:
            raise RuntimeError(f"{missed} layers ran inside a graph, which copies no tokens")


@dataclass(slots=True)
class _Step:
    """Rows of this step whose keys and values are written a second time, and the slots for it."""

    rows: torch.Tensor | None = None
    slots: torch.Tensor | None = None


_step = _Step()


class BlockCopies:
    """Copies whole blocks before the pass; `_update` writes the tokens of this step.

    Args:
        caches: Of each layer, of shape (blocks, ...).
    """

    def __init__(self, caches: Mapping[str, torch.Tensor]) -> None:
        self._caches = caches

    def begin(self, copies: Copies, forward_context: Any) -> None:
        """See `Copier`."""
        slots = next(iter(forward_context.slot_mapping.values()))
        rows = {slot: row for row, slot in enumerate(slots.tolist())}
        taken = [rows.get(source, -1) for source in copies.sources]
        size = copies.block_size
        whole = {
            target // size: source // size
            for source, target, row in zip(copies.sources, copies.targets, taken, strict=True)
            if row < 0
        }
        for target, source in whole.items():
            for cache in self._caches.values():
                cache[target].copy_(cache[source])
        here = [
            (row, target) for row, target in zip(taken, copies.targets, strict=True) if row >= 0
        ]
        if here:
            pairs = torch.tensor(here, dtype=slots.dtype, device=slots.device)
            _step.rows, _step.slots = pairs[:, 0].long(), pairs[:, 1].contiguous()

    def layer(self, name: str) -> None:
        """What is copied between layers is copied by the update itself."""

    def end(self) -> None:
        """See `Copier`."""
        _step.rows = None


def _update(
    self: Any,
    layer: Any,
    key: torch.Tensor,
    value: torch.Tensor,
    kv_cache: torch.Tensor,
    slot_mapping: torch.Tensor,
) -> None:
    """Replacement of the CPU attention's method: some rows are written to a second slot as well."""
    stock = getattr(type(self), _STOCK)
    stock(self, layer, key, value, kv_cache, slot_mapping)
    if _step.rows is not None:
        stock(self, layer, key[_step.rows], value[_step.rows], kv_cache, _step.slots)


def make_copier(runner: Any, caches: Mapping[str, torch.Tensor]) -> Copier | str:
    """The way to copy with this attention, or why there is none. Safe to call again.

    Args:
        runner: A vLLM model runner.
        caches: Of each layer.
    """
    layers = runner.compilation_config.static_forward_context.values()
    kinds = {type(layer.impl) for layer in layers if hasattr(layer, "impl")}
    if runner.device.type == "cpu":
        return _block_copies(runner.vllm_config, kinds, caches)
    return _unlike_slots(runner.vllm_config, kinds, caches) or SlotCopies(caches, runner.device)


def _block_copies(
    config: Any, kinds: set[type], caches: Mapping[str, torch.Tensor]
) -> Copier | str:
    if reason := unfit(BLOCK_COPIES):
        return reason
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackendImpl as Attention

    if kinds - {Attention}:
        return "on a CPU only vLLM's own attention is handled"
    if config.speculative_config is not None:
        return "steps with drafts are not handled"
    if not hasattr(Attention, _STOCK):
        setattr(Attention, _STOCK, getattr(Attention, _UPDATE))
        setattr(Attention, _UPDATE, _update)
    return BlockCopies(caches)


def _unlike_slots(config: Any, kinds: set[type], caches: Mapping[str, torch.Tensor]) -> str | None:
    """Why slots cannot be copied, or None."""
    from vllm.config import CUDAGraphMode

    if reason := unfit(SLOT_COPIES):
        return reason
    if other := sorted({kind.__name__ for kind in kinds} - {*_OF_SLOTS}):
        return f"{other[0]} is not handled"
    size = config.cache_config.block_size
    if any(cache.dim() != 4 or cache.shape[2] != size for cache in caches.values()):
        return "the cache is laid out in another way"
    if any(cache.is_floating_point() and cache.dtype.itemsize == 1 for cache in caches.values()):
        return "8-bit floats cannot be indexed"
    parallel = config.parallel_config
    if parallel.use_ubatching or config.speculative_config is not None:
        return "steps in parts, and drafts, are not handled"
    if parallel.decode_context_parallel_size * parallel.prefill_context_parallel_size > 1:
        return "a context in parts is not handled"
    if config.compilation_config.cudagraph_mode.mixed_mode() == CUDAGraphMode.FULL:
        return "prompts run as one graph (--compilation-config)"
    return None
