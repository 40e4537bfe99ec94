"""Hashes the blocks of a prefix once, not once for each request that begins with it.

vLLM names each block of a prompt by a hash of its tokens and of all before them; for the pairs of a
task these are the same blocks over and over, and hashing them takes a quarter of the time that the
engine spends on a pair. Here a request takes over the hashes of the blocks that it shares with one
of the last requests, found by comparing the tokens themselves.

This replaces the function with which vLLM's engine makes its hasher, in the process of the engine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from engine.prompts.seams import shared_prefix
from engine.server.vllm.patched_vllm import SHARED_HASHES, unfit

_MAKER = "get_request_block_hasher"
_STOCK = "_jostle_stock_block_hasher"

_REMEMBERED = 4
"""Requests that are remembered: the pairs of a few tasks may reach the engine in turns."""


class _Hashed(NamedTuple):
    """The prompt of a request, and the hashes of its full blocks."""

    salt: str | None
    token_ids: list[int]
    hashes: list[bytes]


class SharedHashes:
    """A hasher of vLLM's: gives the hashes of the blocks of a request that are full and have none.

    Args:
        stock: vLLM's own.
        block_size: Tokens that one hash stands for.
    """

    def __init__(self, stock: Callable[[Any], list[bytes]], block_size: int) -> None:
        self._stock = stock
        self._size = block_size
        self._last: deque[_Hashed] = deque(maxlen=_REMEMBERED)

    def __call__(self, request: Any) -> list[bytes]:
        """See the class. Whatever else goes into a hash than tokens and salt, vLLM hashes."""
        plain = not (request.lora_request or request.mm_features or request.block_hashes)
        token_ids = request.prompt_token_ids
        if not plain or request.prompt_embeds is not None or len(token_ids) < self._size:
            return self._stock(request)
        shared = self._shared(request.cache_salt, token_ids)
        request.block_hashes.extend(shared)
        rest = self._stock(request)
        # A copy of both: a request that takes further input later is changed in place.
        self._last.appendleft(_Hashed(request.cache_salt, [*token_ids], [*shared, *rest]))
        return rest

    def _shared(self, salt: str | None, token_ids: list[int]) -> list[bytes]:
        """The hashes of the most blocks that one of the last requests begins with as well."""
        best: list[bytes] = []
        for one in tuple(self._last):
            if one.salt == salt and one.token_ids[: self._size] == token_ids[: self._size]:
                n_blocks = shared_prefix(one.token_ids, token_ids) // self._size
                if n_blocks > len(best):
                    best = one.hashes[:n_blocks]
                if 2 * len(best) * self._size > len(token_ids):
                    break  # a longer one would save little
        return best


def install() -> str | None:
    """Replaces the function in this process; why it was not done, or None. Safe to call again."""
    if reason := unfit(SHARED_HASHES):
        return reason
    from vllm.v1.engine import core

    if not hasattr(core, _STOCK):
        setattr(core, _STOCK, getattr(core, _MAKER))
        setattr(core, _MAKER, _hasher)
    return None


def _hasher(hash_block_size: int, caching_hash_fn: Callable[[Any], bytes]) -> SharedHashes:
    from vllm.v1.engine import core

    return SharedHashes(getattr(core, _STOCK)(hash_block_size, caching_hash_fn), hash_block_size)
