"""Shares a prefix to its last token, not only to its last whole block.

vLLM's prefix cache hands on whole blocks. The pairs of a task share a prefix that ends somewhere in
a block, and each would compute again what lies between: half a block a pair, which with the blocks
of 32 tokens of the CPU attention is a tenth of all work. Here a request that carries a mark takes
those tokens from a block of the cache that begins with the same ones after the same prefix.

It is a KV connector, so vLLM's scheduler counts the tokens as cached; a worker copies them
(`engine.server.vllm.tail_copies`). Requests without the mark neither give nor take.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from vllm.config import VllmConfig
from vllm.distributed.kv_transfer import get_kv_transfer_group, has_kv_transfer_group
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorRole,
    SupportsHMA,
)
from vllm.v1.core.kv_cache_utils import generate_block_hash_extra_keys
from vllm.v1.core.single_type_kv_cache_manager import FullAttentionManager

from engine.server.vllm.patched_vllm import SHARED_TAILS, unfit
from engine.server.vllm.tail_copies import Copier, Copies, make_copier

MARK = "jostle_shared_tokens"
"""Key of `SamplingParams.extra_args`: how many of the request's first tokens may be taken over. The
connector's own config may give it another name, see `mark_of`."""

MAX_CHILDREN, MAX_BLOCKS = 8, 50_000
"""Blocks remembered after one prefix, any of which serves what all of them share; and in all."""


def mark_of(config: VllmConfig) -> str:
    """The name of the mark in an engine of this config."""
    transfer = config.kv_transfer_config
    extra = transfer.kv_connector_extra_config if transfer else {}
    return str(extra.get("mark", MARK))


@dataclass(frozen=True, slots=True)
class _Block:
    """A full block of the prefix cache: its key there, what precedes it and its tokens."""

    key: bytes
    parent: bytes
    tokens: tuple[int, ...]


class Index:
    """Full blocks of the prefix cache, by the hash of the prefix they continue.

    Args:
        pool: vLLM's block pool, which knows what a block holds at present.
        block_size: Tokens a block.
    """

    def __init__(self, pool: Any, block_size: int) -> None:
        self._pool = pool
        self._size = block_size
        self._blocks: dict[int, _Block] = {}
        self._children: dict[bytes, dict[int, None]] = {}

    def add(self, request: Any, blocks: Sequence[Any], first: int) -> int:
        """Remembers the full blocks of a request from the `first` on; how many are full now."""
        tokens = request.all_token_ids
        n_full = min(len(blocks), len(request.block_hashes))
        for number in range(first, n_full):
            block = blocks[number]
            if block.block_hash is None:
                return number
            known = self._blocks.get(block.block_id)
            if known is not None and known.key == block.block_hash:
                continue
            self._forget(block.block_id)
            start = number * self._size
            parent = self.parent(request, number)
            self._blocks[block.block_id] = _Block(
                block.block_hash, parent, tuple(tokens[start : start + self._size])
            )
            children = self._children.setdefault(parent, {})
            children[block.block_id] = None
            if len(children) > MAX_CHILDREN:
                self._forget(next(iter(children)))
            if len(self._blocks) > MAX_BLOCKS:
                self._forget(next(iter(self._blocks)))
        return n_full

    def parent(self, request: Any, number: int) -> bytes:
        """What a block of a request continues: everything but its own tokens that its key holds."""
        if number:
            return bytes(request.block_hashes[number - 1])
        extra, _ = generate_block_hash_extra_keys(request, 0, self._size, 0)
        return repr(extra).encode()

    def longest(self, parent: bytes, wanted: Sequence[int]) -> tuple[int, int]:
        """The block after a prefix that begins with most of the wanted tokens; how many."""
        best = (0, -1)
        for block_id in list(self._children.get(parent, ())):
            known = self._blocks[block_id]
            if self._pool.blocks[block_id].block_hash != known.key:  # evicted since
                self._forget(block_id)
                continue
            same = takewhile(lambda two: two[0] == two[1], zip(known.tokens, wanted, strict=False))
            best = max(best, (sum(1 for _ in same), block_id))
        return best[1], best[0]

    def _forget(self, block_id: int) -> None:
        known = self._blocks.pop(block_id, None)
        if known is None:
            return
        children = self._children[known.parent]
        children.pop(block_id)
        if not children:
            del self._children[known.parent]


class SharedTails(KVConnectorBase_V1, SupportsHMA):
    """The connector: `--kv-transfer-config` names it. One in the scheduler, one in each worker."""

    def __init__(self, vllm_config: VllmConfig, role: KVConnectorRole, kv_cache_config: Any):
        super().__init__(vllm_config, role, kv_cache_config)
        self._size = 0
        self._mark = mark_of(vllm_config)
        # On CUDA vLLM replays steps of one token a request as one graph, which copies nothing.
        on_cpu = vllm_config.device_config.device_type == "cpu"
        self._least = 1 if on_cpu else 2
        self._safe = on_cpu or not _may_cut_to_one(vllm_config.scheduler_config)
        self._index: Index | None = None  # none where the cache is of a kind not handled
        self._filling: dict[str, tuple[Any, int]] = {}
        self._found: dict[str, tuple[int, int]] = {}
        self._copies = Copies()
        self._origins: dict[int, int] = {}
        self._pinned: list[Any] = []
        self._caches: dict[str, torch.Tensor] = {}
        self._copier: Copier | None = None

    @property
    def requires_kv_delivery(self) -> bool:
        """Nothing is handed to anybody, so a preempted request keeps what it has computed."""
        return False

    # In the scheduler.

    def bind_kv_cache_manager(self, kv_cache_manager: Any) -> None:
        """Takes the cache whose blocks are shared, if it is of the one kind that is handled."""
        super().bind_kv_cache_manager(kv_cache_manager)
        pool = kv_cache_manager.block_pool
        managers = kv_cache_manager.coordinator.single_type_managers
        if not self._safe or [*map(type, managers)] != [FullAttentionManager]:
            return
        (manager,) = managers
        if (
            not getattr(manager.kv_cache_spec, "non_causal", False)
            and manager.block_size == pool.hash_block_size
            and not manager.records_new_block_ids
            and manager.enable_caching
        ):
            self._size = manager.block_size
            self._pool, self._tables = pool, manager.req_to_blocks
            self._index = Index(pool, self._size)

    def get_num_new_matched_tokens(
        self, request: Any, num_computed_tokens: int
    ) -> tuple[int | None, bool]:
        """How many tokens behind the whole cached blocks are found at the head of another block."""
        start, end = num_computed_tokens, self._allowed(request)
        if self._index is None or start >= end or not self._has_room(request):
            return 0, False
        self._note_filled()
        wanted = request.all_token_ids[start : min(start + self._size, end)]
        parent = self._index.parent(request, start // self._size)
        source, count = self._index.longest(parent, wanted)
        if count:
            # Until the step is planned: nobody may be given the block and compute into it.
            self._pool.touch([self._pool.blocks[source]])
            self._pinned.append(self._pool.blocks[source])
            self._found[request.request_id] = (source, start)
        return count, False

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None:
        """Notes the copies into the request's own block, from where the tokens are computed."""
        if self._index is None:
            return
        source, start = self._found.pop(request.request_id, (-1, 0))
        if num_external_tokens:
            number = start // self._size
            target = self._tables[request.request_id][number].block_id
            for offset in range(num_external_tokens):
                slot = source * self._size + offset
                # A block that copies of this step fill leads to where they come from.
                origin = self._origins.get(slot, slot)
                self._origins[target * self._size + offset] = origin
                self._copies.sources.append(origin)
                self._copies.targets.append(target * self._size + offset)
        if self._allowed(request):
            self._filling[request.request_id] = (request, start // self._size)
            self._note_filled()

    def build_connector_meta(self, scheduler_output: Any) -> Copies:
        """The copies of this step."""
        copies = self._copies
        copies.block_size = self._size
        self._copies, self._origins = Copies(), {}
        self._found.clear()
        if self._pinned:
            self._pool.free_blocks(self._pinned)
            self._pinned = []
        return copies

    def request_finished_all_groups(
        self, request: Any, block_ids: tuple[list[int], ...]
    ) -> tuple[bool, dict[str, Any] | None]:
        """Forgets the request; its blocks stay in vLLM's cache."""
        self._filling.pop(request.request_id, None)
        return False, None

    def request_finished(
        self, request: Any, block_ids: list[int]
    ) -> tuple[bool, dict[str, Any] | None]:
        """The same, where vLLM runs without groups."""
        return self.request_finished_all_groups(request, (block_ids,))

    def _allowed(self, request: Any) -> int:
        """The mark of a request, as far as it may be believed.

        Blocks are told apart by their tokens here, which those of images and embeddings are not.
        """
        params = request.sampling_params
        value = (params.extra_args or {}).get(self._mark) if params else None
        if request.mm_features or request.prompt_embeds is not None:
            return 0
        most = request.num_prompt_tokens - self._least
        return max(0, min(value, most)) if type(value) is int else 0

    def _has_room(self, request: Any) -> bool:
        """Whether a block can be held back while the request gets its own."""
        needed = -(-request.num_tokens // self._size)
        return bool(self._pool.get_num_free_blocks() - needed > self._pool.num_gpu_blocks // 10)

    def _note_filled(self) -> None:
        """Remembers blocks that have been filled since; a prompt may take several steps."""
        assert self._index is not None
        for request_id, (request, known) in list(self._filling.items()):
            n_full = self._index.add(request, self._tables.get(request_id, ()), known)
            if n_full * self._size + self._size > request.num_prompt_tokens:
                del self._filling[request_id]
            else:
                self._filling[request_id] = (request, n_full)

    # In a worker.

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        """Takes the layers' caches."""
        self._caches = kv_caches

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        """Before the forward pass."""
        copies = self._get_connector_metadata()
        assert isinstance(copies, Copies)
        if not copies.targets:
            return
        if self._copier is None:
            raise RuntimeError(f"{self._mark} was sent to an engine that shares no tails")
        self._copier.begin(copies, forward_context)

    def wait_for_layer_load(self, layer_name: str) -> None:
        """In each layer, between its update of the cache and its attention."""
        if self._copier:
            self._copier.layer(layer_name)

    def save_kv_layer(self, *args: Any, **kwargs: Any) -> None:
        """Nothing leaves the cache."""

    def wait_for_save(self) -> None:
        """After the forward pass."""
        if self._copier:
            self._copier.end()


def _may_cut_to_one(scheduler: Any) -> bool:
    """Whether a step may take one token of a prompt while it takes one of all other requests."""
    budget = scheduler.max_num_scheduled_tokens or scheduler.max_num_batched_tokens
    return bool(budget <= scheduler.max_num_seqs or scheduler.long_prefill_token_threshold == 1)


def install(runner: Any) -> str | None:
    """Has the connector of this worker copy; why it cannot be done, or None."""
    tails = get_kv_transfer_group() if has_kv_transfer_group() else None
    if not isinstance(tails, SharedTails):
        return "the engine was started without it"
    found = unfit(SHARED_TAILS) or make_copier(runner, tails._caches)
    if isinstance(found, str):
        return found
    tails._copier = found
    return None
