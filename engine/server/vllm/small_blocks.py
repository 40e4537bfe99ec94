"""Cache blocks of less than 16 tokens with FlashAttention 3.

A prefix is shared in whole blocks, so half a block a pair is computed again. vLLM offers blocks
of multiples of 16 tokens for every FlashAttention; that is the limit of the second, while the
third, that of Hopper GPUs, addresses tokens one by one wherever a block is no multiple of its tile
(`hopper/paged_kv.h` of flash-attention; SGLang runs it with pages of 1).
"""

from __future__ import annotations

from typing import Any

from engine.server.vllm.patched_vllm import SMALL_BLOCKS, unfit

_STOCK = "_jostle_stock_block_sizes"
_METHOD = "get_supported_kernel_block_sizes"


def install() -> str | None:
    """Lets the backend take any size; why it was not done, or None. Safe to call again."""
    if reason := unfit(SMALL_BLOCKS):
        return reason
    from vllm.v1.attention.backends.flash_attn import FlashAttentionBackend

    if not hasattr(FlashAttentionBackend, _STOCK):
        setattr(FlashAttentionBackend, _STOCK, getattr(FlashAttentionBackend, _METHOD))
        setattr(FlashAttentionBackend, _METHOD, classmethod(_block_sizes))
    return None


def _block_sizes(cls: Any, kv_cache_spec: Any = None) -> Any:
    from vllm.v1.attention.backend import MultipleOf
    from vllm.v1.attention.backends.fa_utils import get_flash_attn_version

    sizes = getattr(cls, _STOCK)(kv_cache_spec)
    plain = all(isinstance(size, MultipleOf) and size.base == 16 for size in sizes)
    return [MultipleOf(1)] if plain and get_flash_attn_version() == 3 else sizes
