"""Sizes of cache blocks that FlashAttention is offered."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from vllm.v1.attention.backends import fa_utils
from vllm.v1.attention.backends.flash_attn import FlashAttentionBackend

from engine.server.vllm import small_blocks


@pytest.fixture
def installed() -> Iterator[None]:
    assert small_blocks.install() is None
    yield
    stock = vars(FlashAttentionBackend)[small_blocks._STOCK]
    setattr(FlashAttentionBackend, small_blocks._METHOD, stock)
    delattr(FlashAttentionBackend, small_blocks._STOCK)


@pytest.mark.parametrize(("version", "taken"), [(3, True), (2, False), (None, False)])
def test_only_the_third_takes_blocks_of_less_than_16(
    installed: None, monkeypatch: pytest.MonkeyPatch, version: int | None, taken: bool
) -> None:
    monkeypatch.setattr(fa_utils, "get_flash_attn_version", lambda: version)
    assert [FlashAttentionBackend.supports_block_size(size) for size in (1, 8, 16, 32)] == [
        taken,
        taken,
        True,
        True,
    ]


def test_a_size_that_a_kernel_insists_on_stays(
    installed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fa_utils, "get_flash_attn_version", lambda: 3)
    monkeypatch.setattr(FlashAttentionBackend, small_blocks._STOCK, lambda spec: [128])
    assert not FlashAttentionBackend.supports_block_size(8)
