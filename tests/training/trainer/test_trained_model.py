"""Weights that were spread over processes come out whole; one process stands for all."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

from engine.weights.probing import probe_logprobs, text_pairs
from tests.training.tiny import make_tiny_model, make_tokenizer
from training.trainer.trained_model import copied, gather_state, is_sharded, unwrapped


@pytest.fixture
def one_process() -> Iterator[None]:
    store: Any = distributed.HashStore()  # type: ignore[attr-defined]
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def same(found: dict[str, torch.Tensor] | None, expected: dict[str, torch.Tensor]) -> None:
    assert found is not None
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert type(found[name]) is torch.Tensor
        assert torch.equal(found[name], tensor), name


def wrap(model: Any, how: str) -> Any:
    if how == "FSDP":
        return FullyShardedDataParallel(model, device_id=torch.device("cpu"))
    return fully_shard(model, mesh=init_device_mesh("cpu", (1,)))


@pytest.mark.parametrize("how", ["FSDP", "FSDP2"])
@pytest.mark.usefixtures("one_process")
def test_fsdp(how: str) -> None:
    model = make_tiny_model(tied=True)
    expected = copied(model.state_dict())
    ids = make_tokenizer()
    pairs = text_pairs(lambda text: ids.encode(text, add_special_tokens=False))
    probes = probe_logprobs(model, pairs)
    assert not is_sharded(model)
    spread = wrap(model, how)
    assert is_sharded(spread)
    assert type(unwrapped(spread)).__name__.endswith("LlamaForCausalLM")
    same(gather_state(spread, first=True), expected)
    assert gather_state(spread, first=False) is None
    assert probe_logprobs(spread, pairs) == probes


def test_zero3(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process calls for each parameter, as DeepSpeed wants it."""
    model = make_tiny_model(tied=True)
    expected = copied(model.state_dict())
    whole = {id(parameter): parameter.data for parameter in model.parameters()}
    for parameter in model.parameters():
        parameter.ds_id = id(parameter)
        parameter.data = torch.empty(0)
    gathered: list[int] = []

    @contextmanager
    def gather(parameters: list[Any]) -> Iterator[None]:
        for parameter in parameters:
            gathered.append(id(parameter))
            parameter.data = whole[id(parameter)]
        yield
        for parameter in parameters:
            parameter.data = torch.empty(0)

    zero = ModuleType("deepspeed.zero")
    zero.GatheredParameters = gather  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "deepspeed", ModuleType("deepspeed"))
    monkeypatch.setitem(sys.modules, "deepspeed.zero", zero)
    assert is_sharded(model)
    same(gather_state(model, first=True), expected)
    calls = list(gathered)
    gathered.clear()
    assert gather_state(model, first=False) is None
    assert gathered == calls
    part = gather_state(model, first=True, part="q_proj")
    assert part
    assert all("q_proj" in name for name in part)


def test_copies_share_what_was_shared() -> None:
    tensor = torch.ones(3)
    found = copied({"a": tensor, "b": tensor, "c": tensor[1:]})
    assert found["a"] is found["b"]
    assert found["c"] is not found["a"]
    tensor.zero_()
    assert found["a"].tolist() == [1, 1, 1]


def test_the_first_process_alone_copies(tmp_path: Path) -> None:
    model = make_tiny_model(tied=False)
    assert gather_state(model, first=False) is None
