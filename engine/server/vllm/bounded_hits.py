"""Lets a hit in the prefix cache end before the first row that a request has scored.

vLLM takes from its cache as much of a prompt as it finds, up to the last token. The rows of output
tokens that are found there are not computed, so a pair asked for again, or one whose output another
pair has as part of its prompt, would have to be computed a second time without the cache. A hit
that ends before the first scored row costs the output's own tokens and nothing else.

This replaces one method of the cache manager, in the process of the engine, for requests that carry
the mark of `engine.server.vllm.output_rows` or have vLLM score fixed ids.
"""

from __future__ import annotations

from typing import Any

from engine.server.vllm.output_rows import MARK
from engine.server.vllm.patched_vllm import BOUNDED_HITS, unfit

_STOCK = "_jostle_stock_computed_blocks"
_METHOD = "get_computed_blocks"


class _Prefix:
    """A request as it would be if it were over with its first tokens and one more."""

    def __init__(self, request: Any, length: int) -> None:
        self._request = request
        self.num_tokens = length + 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)


def install() -> str | None:
    """Replaces the method in this process; why it was not done, or None. Safe to call again."""
    if reason := unfit(BOUNDED_HITS):
        return reason
    from vllm.v1.core.kv_cache_manager import KVCacheManager

    if not hasattr(KVCacheManager, _STOCK):
        setattr(KVCacheManager, _STOCK, getattr(KVCacheManager, _METHOD))
        setattr(KVCacheManager, _METHOD, _computed_blocks)
    return None


def _computed_blocks(self: Any, request: Any) -> Any:
    first = _first_scored(request)
    bounded = request if first is None else _Prefix(request, first)
    return getattr(self, _STOCK)(bounded)


def _first_scored(request: Any) -> int | None:
    """The first row that is wanted. Any client of the server may say one, so it is not believed."""
    params = request.sampling_params
    if params is None:
        return None
    value = (params.extra_args or {}).get(MARK)
    if value is None and params.prompt_logprob_token_ids is not None:
        value = params.prompt_logprob_start or 0
    return value if type(value) is int and 0 <= value < request.num_tokens - 1 else None
