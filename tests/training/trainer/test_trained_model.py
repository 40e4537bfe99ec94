"""Weights that were spread over processes come out whole; one process stands for all."""

from __future__ import annotations

import contextlib
import json
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import ANY

import peft
import pytest
import torch
from peft import get_peft_model
from safetensors.torch import load_file, save_file
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from transformers import AutoModelForCausalLM, LlamaForCausalLM
from transformers.integrations import deepspeed

from engine.errors import InputError, TrainingError
from engine.weights.probing import probe_logprobs, text_pairs
from tests.training.tiny import make_tiny_model, make_tokenizer, save_tiny_model
from training.config.run_config import LoraConfig, TrainConfig
from training.trainer import trained_model
from training.trainer.trained_model import (
    cast,
    check_mergeable,
    copied,
    gather_state,
    is_sharded,
    save_model_files,
    unwrapped,
)


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
def test_fsdp(how: str, tmp_path: Path) -> None:
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
    state = gather_state(spread, first=True)
    save_model_files(unwrapped(spread), tmp_path, "", state=state, tokenizer=ids)
    same(AutoModelForCausalLM.from_pretrained(tmp_path).state_dict(), expected)


def spread_by_zero3(model: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Takes a model's weights away as DeepSpeed does; what has been gathered of them."""
    whole = {id(parameter): parameter.data for parameter in model.parameters()}
    for parameter in model.parameters():
        parameter.ds_id = id(parameter)
        parameter.data = torch.empty(0)
    gathered: list[int] = []

    @contextlib.contextmanager
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
    return gathered


def test_zero3(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process calls for each parameter, as DeepSpeed wants it."""
    model = make_tiny_model(tied=True)
    expected = copied(model.state_dict())
    gathered = spread_by_zero3(model, monkeypatch)
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


class Zero3Config:
    """Stands for DeepSpeed's, of which transformers has all processes load a model together."""

    def is_zero3(self) -> bool:
        return True


def test_the_first_process_alone_loads_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.trainer.sft import gather_model

    save_tiny_model(tmp_path, tied=True, seed=1)
    model = make_tiny_model(tied=True)
    expected = copied(model.state_dict())
    spread_by_zero3(model, monkeypatch)
    config = Zero3Config()
    monkeypatch.setattr(deepspeed, "_hf_deepspeed_config_weak_ref", weakref.ref(config))
    trainer = SimpleNamespace(model=model, is_world_process_zero=lambda: True)
    job: Any = SimpleNamespace(model=str(tmp_path), trust_remote_code=False, config=TrainConfig())
    found = gather_model(trainer, job)
    assert found is not None
    same(found.state_dict(), expected)


@pytest.mark.parametrize(
    ("fsdp", "stage", "refused"), [(True, None, True), (False, 3, True), (False, 2, False)]
)
def test_adapters_are_not_trained_on_weights_that_are_spread(
    fsdp: bool, stage: int | None, refused: bool
) -> None:
    from training.trainer.sft import check_spread

    plugin = SimpleNamespace(zero_stage=stage) if stage else None
    state = SimpleNamespace(deepspeed_plugin=plugin)
    trainer = SimpleNamespace(is_fsdp_enabled=fsdp, accelerator=SimpleNamespace(state=state))
    check_spread(trainer, TrainConfig())
    if refused:
        with pytest.raises(TrainingError, match=r"train\.lora cannot be combined with FSDP"):
            check_spread(trainer, TrainConfig(lora=LoraConfig()))
    else:
        check_spread(trainer, TrainConfig(lora=LoraConfig()))


def test_a_cast_model_is_the_one_that_transformers_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny_model(tmp_path, tied=True)
    monkeypatch.setattr(LlamaForCausalLM, "_keep_in_fp32_modules_strict", {"input_*norm"})
    ours: Any = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    theirs: Any = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    cast(ours, torch.bfloat16)
    for kind in ("named_parameters", "named_buffers"):
        same(copied(dict(getattr(ours, kind)())), copied(dict(getattr(theirs, kind)())))
    assert {each.dtype for each in ours.parameters()} == {torch.bfloat16, torch.float32}
    assert {each.dtype for each in ours.buffers()} == {torch.float32}


@pytest.mark.parametrize("base_is_here", [True, False])
def test_a_processor_comes_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base_is_here: bool
) -> None:
    """Without its config vLLM would not start the checkpoint of a model that takes images."""
    base, folder = tmp_path / "base", tmp_path / "saved"
    save_tiny_model(base, tied=True)
    (base / "preprocessor_config.json").write_text("{}")
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    if not base_is_here:
        monkeypatch.setattr(trained_model, "local_folder", lambda name: base)
    save_model_files(
        model, folder, str(base) if base_is_here else "of/hub", tokenizer=make_tokenizer()
    )
    assert (folder / "preprocessor_config.json").is_file()


@pytest.mark.parametrize(
    ("targets", "renamed", "message"),
    [
        (["q_proj"], False, None),
        (
            ["q_proj"],
            True,
            r"layers.0.self_attn.q_proj: has no weight of its name in the model's files",
        ),
        (["embed_tokens"], False, r"embed_tokens: is an embedding"),
    ],
)
def test_an_adapter_that_no_engine_could_merge(
    tmp_path: Path, targets: list[str], renamed: bool, message: str | None
) -> None:
    save_tiny_model(tmp_path, tied=False)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    if renamed:  # as those of Gemma 3 are, of 4B and more
        file = tmp_path / "model.safetensors"
        tensors = load_file(file)
        save_file({f"language_model.{name}": tensors[name] for name in tensors}, file)
    adapted = get_peft_model(model, peft.LoraConfig(target_modules=targets, task_type="CAUSAL_LM"))
    expected = pytest.raises(InputError, match=message) if message else contextlib.nullcontext()
    for base in (str(tmp_path), ""):
        with expected if base or "embedding" in str(message) else contextlib.nullcontext():
            check_mergeable(adapted, base)


@pytest.mark.parametrize("base_is_here", [True, False])
def test_a_generation_config_that_transformers_would_not_save(
    tmp_path: Path, base_is_here: bool
) -> None:
    """It loads what it refuses to save: a temperature without `do_sample`."""
    base, folder = tmp_path / "base", tmp_path / "saved"
    save_tiny_model(base, tied=True)
    own = {"temperature": 0.6, "top_p": 0.9, "eos_token_id": [2, 5]}
    (base / "generation_config.json").write_text(json.dumps(own))
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    save_model_files(model, folder, str(base) if base_is_here else "", tokenizer=make_tokenizer())
    found = json.loads((folder / "generation_config.json").read_text())
    assert found == (own if base_is_here else own | {"transformers_version": ANY})
    assert model.generation_config.temperature == 0.6
    same(AutoModelForCausalLM.from_pretrained(folder).state_dict(), copied(model.state_dict()))
