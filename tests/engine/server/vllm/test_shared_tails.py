"""Tokens taken over from other requests' blocks: every slot must hold what its request needs."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("vllm")

from vllm.config import CUDAGraphMode
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_manager import KVCacheManager
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.request import Request

from engine.process import settings as settings_of_engines
from engine.process.settings import SHARED_TAILS_VARIABLE
from engine.server.vllm import shared_tails, tail_copies
from engine.server.vllm.shared_tails import MARK, SharedTails, mark_of
from engine.server.vllm.tail_copies import BlockCopies, SlotCopies, make_copier

SIZE = 4
BUDGET = 12
"""Tokens a block, and tokens a step."""


SCHEDULER = SimpleNamespace(
    max_num_scheduled_tokens=None,
    max_num_batched_tokens=BUDGET,
    max_num_seqs=8,
    long_prefill_token_threshold=0,
)


def content(tokens: list[int]) -> int:
    """What the keys and values of the last token depend on: every token up to it."""
    return hash(tuple(tokens)) % (2**50)


class Attention:
    """Writes one number per token, as vLLM's attention writes keys and values."""

    def update(
        self, layer: Any, key: torch.Tensor, value: torch.Tensor, cache: Any, slots: torch.Tensor
    ) -> None:
        cache.view(-1)[slots] = key


setattr(Attention, tail_copies._STOCK, Attention.update)


@dataclass
class Engine:
    """vLLM's cache manager and the connector, with the steps that its scheduler would take."""

    n_blocks: int
    device: str = "cpu"
    scheduler: Any = field(default_factory=lambda: SCHEDULER)
    waiting: list[Request] = field(default_factory=list)
    running: list[Request] = field(default_factory=list)
    shared: int = 0

    def __post_init__(self) -> None:
        init_none_hash(sha256)
        spec = FullAttentionSpec(block_size=SIZE, num_kv_heads=1, head_size=1, dtype=torch.float32)
        config = KVCacheConfig(self.n_blocks, [], [KVCacheGroupSpec(["layer"], spec)])
        self.manager = KVCacheManager(config, 1024, SIZE, SIZE)
        transfer: Any = SimpleNamespace(
            kv_transfer_config=SimpleNamespace(kv_connector_extra_config={}),
            device_config=SimpleNamespace(device_type=self.device),
            scheduler_config=self.scheduler,
        )
        self.connector = SharedTails(transfer, None, config)  # type: ignore[arg-type]
        self.connector.bind_kv_cache_manager(self.manager)
        self.cache = torch.zeros(self.n_blocks, 1, SIZE, 1, dtype=torch.long)
        caches = {"layer": self.cache}
        self.connector._copier = (
            BlockCopies(caches) if self.device == "cpu" else SlotCopies(caches, self.cache.device)
        )

    def add(self, tokens: list[int], *, marked: bool, mark: Any = None) -> None:
        mark = len(tokens) - 1 if mark is None else mark
        params = SamplingParams(extra_args={MARK: mark} if marked else None)
        name = f"request-{len(self.waiting)}"
        hasher = get_request_block_hasher(SIZE, sha256)
        self.waiting.append(Request(name, tokens, params, None, block_hasher=hasher))

    def step(self) -> None:
        """Schedules what fits, computes it and checks every slot of every request."""
        budget, planned = BUDGET, {}
        for request in self.running:
            count = min(budget, request.num_tokens - request.num_computed_tokens)
            if count and self.manager.allocate_slots(request, count) is None:
                count = 0
            budget, planned[request.request_id] = budget - count, count
        while self.waiting and budget:
            request = self.waiting[0]
            blocks, local, *_ = self.manager.get_computed_blocks(request)
            external, later = self.connector.get_num_new_matched_tokens(request, local)
            assert external is not None
            assert not later
            count = min(budget, request.num_tokens - local - external)
            slots = self.manager.allocate_slots(
                request,
                count,
                num_new_computed_tokens=local,
                new_computed_blocks=blocks,
                num_external_computed_tokens=external,
            )
            if slots is None:
                break
            self.connector.update_state_after_alloc(request, slots, external)
            self.waiting.pop(0)
            self.running.append(request)
            request.num_computed_tokens = local + external
            self.shared += external
            budget, planned[request.request_id] = budget - count, count
        copies = self.connector.build_connector_meta(None)
        self.compute(planned, copies)
        for request in list(self.running):
            request.num_computed_tokens += planned[request.request_id]
            self.check(request)
            if request.num_computed_tokens == request.num_tokens:
                self.running.remove(request)
                self.connector.request_finished(request, [])
                self.manager.free(request)

    def slots(self, request: Request) -> list[int]:
        (blocks,) = self.manager.get_blocks(request.request_id).get_block_ids()
        return [block * SIZE + offset for block in blocks for offset in range(SIZE)]

    def compute(self, planned: dict[str, int], copies: Any) -> None:
        slots: list[int] = []
        keys: list[int] = []
        for request in self.running:
            done, tokens = request.num_computed_tokens, list(request.all_token_ids)
            for position in range(done, done + planned[request.request_id]):
                slots.append(self.slots(request)[position])
                keys.append(content(tokens[: position + 1]))
        mapping = torch.tensor(slots, dtype=torch.long)
        self.connector.bind_connector_metadata(copies)
        self.connector.start_load_kv(SimpleNamespace(slot_mapping={"layer": mapping}))
        key = torch.tensor(keys, dtype=torch.long)
        update = tail_copies._update if self.device == "cpu" else Attention.update
        update(Attention(), None, key, key, self.cache, mapping)
        self.connector.wait_for_layer_load("layer")
        self.connector.wait_for_save()
        self.connector.clear_connector_metadata()

    def check(self, request: Request) -> None:
        tokens, slots = list(request.all_token_ids), self.slots(request)
        held = self.cache.view(-1)[torch.tensor(slots[: request.num_computed_tokens])].tolist()
        expected = [content(tokens[: n + 1]) for n in range(request.num_computed_tokens)]
        assert held == expected, request.request_id

    def run(self) -> None:
        for _ in range(10_000):
            if not (self.waiting or self.running):
                return
            self.step()
        raise AssertionError("the requests never end")


tails = st.lists(st.integers(0, 1), min_size=1, max_size=14)


@pytest.mark.slow
@given(
    prefixes=st.lists(st.integers(0, 1), min_size=0, max_size=14),
    requests=st.lists(st.tuples(tails, st.booleans()), min_size=1, max_size=14),
    n_blocks=st.integers(10, 60),
    device=st.sampled_from(["cpu", "cuda"]),
)
@settings(deadline=None, max_examples=400)
def test_every_slot_holds_what_its_request_would_have_computed(
    prefixes: list[int], requests: list[tuple[list[int], bool]], n_blocks: int, device: str
) -> None:
    engine = Engine(n_blocks, device)
    for tail, marked in requests:
        engine.add(prefixes + tail, marked=marked)
    engine.run()
    free = engine.manager.block_pool.get_num_free_blocks()
    assert free == n_blocks - 1, "a block is held for ever"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_prefix_is_shared_to_its_last_token_in_one_step_and_later(device: str) -> None:
    engine = Engine(60, device)
    prefix = [1, 2, 3, 4, 5, 6]
    for tail in ([7, 8], [9, 10], [11, 12], [13, 14]):
        engine.add(prefix + tail, marked=True)
    engine.run()
    # The first brings all; each other one finds a whole block and two tokens of the next.
    assert engine.shared == 3 * 2


def test_requests_without_the_mark_take_nothing() -> None:
    engine = Engine(60)
    for tail in ([7, 8], [9, 10]):
        engine.add([1, 2, 3, 4, 5, 6, *tail], marked=False)
    engine.run()
    assert engine.shared == 0
    assert engine.connector._copies.targets == []


@pytest.mark.parametrize(("device", "shared"), [("cpu", 3), ("cuda", 2)])
def test_the_last_token_allowed_is_computed_even_if_it_is_known(device: str, shared: int) -> None:
    engine = Engine(60, device)
    for _ in range(2):
        engine.add([1, 2, 3, 4, 5, 6, 7, 8], marked=True)
    engine.run()
    # The eighth predicts the output; a step of one token a request would be one graph on CUDA.
    assert engine.shared == shared


@pytest.mark.parametrize(("mark", "shared"), [("x", 0), (10**9, 3), (-5, 0), (2.5, 0), (True, 0)])
def test_a_mark_that_makes_no_sense_does_no_harm(mark: Any, shared: int) -> None:
    engine = Engine(60)
    for _ in range(2):
        engine.add([1, 2, 3, 4, 5, 6, 7, 8], marked=True, mark=mark)
    engine.run()
    assert engine.shared == shared


def test_what_is_remembered_does_not_grow_with_the_requests() -> None:
    engine = Engine(60)
    for number in range(300):
        engine.add([1, 2, 3, 4, number, number, number, number, 5], marked=True)
    engine.run()
    index = engine.connector._index
    assert index is not None
    assert len(index._blocks) <= 60
    assert all(len(few) <= shared_tails.MAX_CHILDREN for few in index._children.values())
    assert engine.connector._filling == {}


def test_a_mark_that_no_worker_heeds_ends_the_step() -> None:
    engine = Engine(60)
    engine.connector._copier = None
    for _ in range(2):
        engine.add([1, 2, 3, 4, 5, 6, 7, 8], marked=True)
    with pytest.raises(RuntimeError, match="shares no tails"):
        engine.run()


def test_a_step_whose_layers_were_not_all_called_is_not_believed() -> None:
    caches = {name: torch.zeros(4, 1, SIZE, 1) for name in ("first", "second")}
    caches["shared"] = caches["first"]
    copier = SlotCopies(caches, torch.device("cpu"))
    for called, ends in ((["first"], False), (["first", "second"], True), ([], False)):
        copier.begin(tail_copies.Copies(SIZE, [1], [9]), None)
        for name in called:
            copier.layer(name)
        with contextlib.nullcontext() if ends else pytest.raises(RuntimeError, match="graph"):
            copier.end()
    copier.end()  # a step without copies


@pytest.mark.parametrize("kind", ["mm_features", "prompt_embeds"])
def test_what_tokens_do_not_tell_apart_is_not_shared(kind: str) -> None:
    engine = Engine(60)
    for _ in range(2):
        engine.add([1, 2, 3, 4, 5, 6, 7, 8], marked=True)
        setattr(engine.waiting[-1], kind, [object()])
    assert [engine.connector._allowed(each) for each in engine.waiting] == [0, 0]


@pytest.mark.parametrize(
    "changes", [{"max_num_scheduled_tokens": 8}, {"long_prefill_token_threshold": 1}]
)
def test_where_a_step_may_take_one_token_of_each_nothing_is_shared_on_cuda(
    changes: dict[str, int],
) -> None:
    scheduler = SimpleNamespace(**vars(SCHEDULER) | changes)
    for device, shared in (("cpu", 3), ("cuda", 0)):
        engine = Engine(60, device, scheduler)
        for _ in range(2):
            engine.add([1, 2, 3, 4, 5, 6, 7, 8], marked=True)
        engine.run()
        assert engine.shared == shared


def test_no_client_knows_the_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SHARED_TAILS_VARIABLE, "1")
    names = set()
    for _ in range(2):
        (flag,) = [each for each, _ in settings_of_engines._shared_tails()]
        transfer = SimpleNamespace(**json.loads(flag.partition("=")[2]))
        names.add(mark_of(SimpleNamespace(kv_transfer_config=transfer)))  # type: ignore[arg-type]
    assert len(names | {MARK}) == 3


def runner(**changes: Any) -> Any:
    """A runner on CUDA whose tokens have slots of their own, but for some changes."""
    kind = type(changes.get("attention", "FlashAttentionImpl"), (), {})
    cache = torch.zeros(4, 2, 16, 8, dtype=changes.get("dtype", torch.bfloat16))
    context = {"layer": SimpleNamespace(impl=kind()), "rotary": SimpleNamespace()}
    graphs = SimpleNamespace(mixed_mode=lambda: changes.get("graphs", CUDAGraphMode.PIECEWISE))
    config = SimpleNamespace(
        cache_config=SimpleNamespace(block_size=changes.get("block_size", 16)),
        parallel_config=SimpleNamespace(
            use_ubatching=changes.get("ubatching", False),
            decode_context_parallel_size=changes.get("context", 1),
            prefill_context_parallel_size=1,
        ),
        speculative_config=changes.get("drafts"),
        compilation_config=SimpleNamespace(cudagraph_mode=graphs),
    )
    return SimpleNamespace(
        device=torch.device("cuda"),
        vllm_config=config,
        compilation_config=SimpleNamespace(static_forward_context=context),
        caches={"layer": cache},
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"attention": "FlashInferImpl"}, "FlashInferImpl is not handled"),
        ({"block_size": 32}, "laid out in another way"),
        ({"dtype": torch.float8_e4m3fn}, "8-bit floats"),
        ({"ubatching": True}, "in parts"),
        ({"drafts": object()}, "drafts"),
        ({"context": 2}, "a context in parts"),
        ({"graphs": CUDAGraphMode.FULL}, "as one graph"),
    ],
)
def test_what_slots_cannot_be_copied_for_is_told(changes: dict[str, Any], reason: str) -> None:
    made = runner(**changes)
    found = make_copier(made, made.caches)
    assert isinstance(found, str)
    assert reason in found


def test_steps_with_drafts_are_not_handled_on_a_cpu() -> None:
    made = runner(drafts=object())
    made.device = torch.device("cpu")
    made.compilation_config.static_forward_context = {}
    assert make_copier(made, made.caches) == "steps with drafts are not handled"


def test_what_slots_are_copied_for() -> None:
    for attention in ("FlashAttentionImpl", "TritonAttentionImpl"):
        made = runner(attention=attention)
        assert isinstance(make_copier(made, made.caches), SlotCopies)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 1, 3)])
def test_slots_are_copied_in_every_layout_in_memory(order: tuple[int, ...]) -> None:
    cache = torch.randn(6, 2, SIZE, 8).permute(order).contiguous().permute(order)
    before = cache.clone()
    copier = SlotCopies({"layer": cache}, torch.device("cpu"))
    copier.begin(tail_copies.Copies(SIZE, [5, 6, 5], [9, 18, 21]), None)
    copier.layer("layer")
    copier.end()
    expected = before.clone()
    for source, target in ((5, 9), (6, 18), (5, 21)):
        expected[target // SIZE, :, target % SIZE] = before[source // SIZE, :, source % SIZE]
    assert torch.equal(cache, expected)
