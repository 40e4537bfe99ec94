"""The hashes of a request are those of vLLM, whatever has been hashed before."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from vllm.lora.request import LoRARequest
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.engine import core
from vllm.v1.request import Request

from engine.server.vllm import shared_hashes
from engine.server.vllm.shared_hashes import SharedHashes

SIZE = 4
STOCK = get_request_block_hasher(SIZE, sha256)


@pytest.fixture(autouse=True)
def nothing_before() -> None:
    init_none_hash(sha256)


@pytest.fixture
def hashed() -> list[int]:
    """How many blocks vLLM has hashed for a hasher that shares, request by request."""
    return []


@pytest.fixture
def hasher(hashed: list[int]) -> SharedHashes:
    def counted(request: Request) -> list[Any]:
        found = STOCK(request)
        hashed.append(len(found))
        return found

    return SharedHashes(counted, SIZE)


def request(tokens: list[int], hasher: Callable[[Any], Any] = STOCK, **more: Any) -> Request:
    params = SamplingParams(max_tokens=2)
    return Request("one", list(tokens), params, None, block_hasher=hasher, **more)


def test_what_is_shared_is_hashed_once(hasher: SharedHashes, hashed: list[int]) -> None:
    prefix = list(range(18))
    for tail in ([70, 71, 72], [80, 81, 82], [70, 71, 72]):
        assert request(prefix + tail, hasher).block_hashes == request(prefix + tail).block_hashes
    assert hashed == [5, 1, 1], "the last block of the third is in none of the second"


def test_requests_at_random(hasher: SharedHashes) -> None:
    draw = random.Random(0)
    for number in range(400):
        tokens = [draw.randrange(2) for _ in range(draw.randrange(1, 30))]
        salt = draw.choice([None, "a", "b"])
        lora = LoRARequest("x", 1, "/x") if draw.random() < 0.2 else None
        ours, stock = (
            request(tokens, each, cache_salt=salt, lora_request=lora) for each in (hasher, STOCK)
        )
        for _ in range(draw.randrange(9)):  # what is generated fills further blocks
            token = draw.randrange(2)
            ours.append_output_token_ids(token)
            stock.append_output_token_ids(token)
        assert ours.block_hashes == stock.block_hashes, number


def test_others_with_the_same_tokens_share_nothing(hasher: SharedHashes, hashed: list[int]) -> None:
    tokens = list(range(20))
    for more in ({}, {"cache_salt": "v2"}, {"lora_request": LoRARequest("x", 1, "/x")}):
        request(tokens, hasher, **more)
    assert hashed == [5, 5, 5]


def test_one_request_is_long_gone_and_one_is_not(hasher: SharedHashes, hashed: list[int]) -> None:
    for first in (1, 2, 1, 3, 4, 5, 6, 2):
        request([first] * 8, hasher)
    assert hashed == [2, 2, 0, 2, 2, 2, 2, 2]


@pytest.fixture
def installed() -> Iterator[None]:
    assert shared_hashes.install() is None
    assert shared_hashes.install() is None, "again"
    yield
    setattr(core, shared_hashes._MAKER, vars(core)[shared_hashes._STOCK])
    delattr(core, shared_hashes._STOCK)


@pytest.mark.usefixtures("installed")
def test_the_engine_makes_its_hasher_so() -> None:
    made = getattr(core, shared_hashes._MAKER)(SIZE, sha256)
    assert isinstance(made, SharedHashes)
    tokens = list(range(9))
    assert request(tokens, made).block_hashes == request(tokens).block_hashes
