"""What the prefix cache gives a request that has rows scored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_manager import KVCacheManager
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.request import Request

from engine.server.vllm import bounded_hits
from engine.server.vllm.output_rows import MARK

SIZE = 4


@pytest.fixture
def manager() -> Iterator[KVCacheManager]:
    """A cache that holds 23 tokens: five whole blocks."""
    assert bounded_hits.install() is None
    init_none_hash(sha256)
    spec = FullAttentionSpec(block_size=SIZE, num_kv_heads=1, head_size=1, dtype=torch.float32)
    config = KVCacheConfig(20, [], [KVCacheGroupSpec(["layer"], spec)])
    manager = KVCacheManager(config, 1024, SIZE, SIZE)
    manager.allocate_slots(request({}), 23)
    yield manager
    setattr(KVCacheManager, bounded_hits._METHOD, vars(KVCacheManager)[bounded_hits._STOCK])
    delattr(KVCacheManager, bounded_hits._STOCK)


def request(params: dict[str, Any]) -> Request:
    hasher = get_request_block_hasher(SIZE, sha256)
    return Request(
        "one", list(range(23)), SamplingParams(max_tokens=1, **params), None, block_hasher=hasher
    )


@pytest.mark.parametrize(("first", "taken"), [(22, 20), (20, 20), (19, 16), (8, 8), (3, 0), (0, 0)])
@pytest.mark.parametrize("v2", [True, False])
def test_a_hit_ends_before_the_first_scored_row(
    manager: KVCacheManager, first: int, taken: int, v2: bool
) -> None:
    ids = np.zeros((22 - first or 1, 1), dtype=np.int32)
    params: dict[str, Any] = {"extra_args": {MARK: first}}
    if v2:
        params = {"prompt_logprob_token_ids": ids, "prompt_logprob_start": first}
    again = request({**params, "skip_reading_prefix_cache": False})
    blocks, n_tokens, _ = manager.get_computed_blocks(again)
    assert n_tokens == taken
    assert len(blocks.blocks[0]) == taken // SIZE
    assert again.num_tokens == 23


@pytest.mark.parametrize("mark", ["x", -1, 2.5, True, 10**9, None])
def test_other_requests_take_all_there_is(manager: KVCacheManager, mark: Any) -> None:
    params: dict[str, Any] = {} if mark is None else {"extra_args": {MARK: mark}}
    assert manager.get_computed_blocks(request(params))[1] == 20
