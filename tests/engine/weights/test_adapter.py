"""Merging equals peft's own, and what must not be merged is refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from engine.errors import InputError
from engine.weights.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS, merged
from engine.weights.adapter_check import base_digest, check_adapter
from engine.weights.manifest import MANIFEST_NAME, FileEntry, Manifest
from tests.engine.weights.test_checkpoint_check import make_manifest, save_model

PREFIX = "base_model.model.model.layers.0.self_attn."
Q = "model.layers.0.self_attn.q_proj.weight"


def save_adapter(base: Path, folder: Path, seed: int = 0, **config: Any) -> Path:
    """An adapter with random matrices, B's included, which begin as zeros."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    chosen: dict[str, Any] = {
        "r": 4,
        "lora_alpha": 6,
        "target_modules": ["q_proj", "v_proj", "down_proj"],
    } | config
    adapted: Any = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **chosen))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    adapted.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink()
    return folder


def adapter_manifest(folder: Path, base: Path) -> Manifest:
    known = make_manifest(folder).model_dump() | {"kind": "lora", "base_digest": base_digest(base)}
    return Manifest.model_validate(known)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters")
    for tied in (True, False):
        save_model(folder / f"base-{tied}", tied=tied, seed=3)
    save_adapter(folder / "base-True", folder / "adapter")
    return folder


@pytest.fixture
def base(originals: Path) -> Path:
    return originals / "base-True"


@pytest.fixture
def adapter(originals: Path, tmp_path: Path) -> Path:
    """A fresh copy, to be damaged."""
    return Path(shutil.copytree(originals / "adapter", tmp_path / "adapter"))


def tensors_of(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    return iter(load_file(folder / "model.safetensors").items())


def by_peft(base: Path, folder: Path) -> dict[str, torch.Tensor]:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    whole: Any = PeftModel.from_pretrained(model, folder).merge_and_unload()
    state: dict[str, torch.Tensor] = whole.state_dict()
    return state


# --- Merging ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tied", "config"),
    [
        (True, {}),
        (False, {"target_modules": "all-linear"}),
        (False, {"target_modules": ["lm_head", "o_proj"]}),
        (True, {"use_rslora": True, "r": 3}),
        (True, {"rank_pattern": {"q_proj": 2, "layers.0.mlp.*": 8}, "alpha_pattern": {"v.*": 1}}),
        (True, {"target_modules": r".*\.(k|v)_proj"}),
    ],
)
def test_as_peft_merges(
    originals: Path, tmp_path: Path, tied: bool, config: dict[str, Any]
) -> None:
    base = originals / f"base-{tied}"
    folder = save_adapter(base, tmp_path / "adapter", **config)
    check_adapter(folder, adapter_manifest(folder, base), base)
    ours, theirs = dict(merged(tensors_of(base), folder)), by_peft(base, folder)
    changed = [name for name, old in tensors_of(base) if not torch.equal(ours[name], old)]
    assert changed
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-6, atol=1e-7)


def test_half_precision_is_merged_in_float32(base: Path, adapter: Path) -> None:
    halves = [(name, tensor.bfloat16()) for name, tensor in tensors_of(base)]
    whole = dict(merged(((name, half.float()) for name, half in halves), adapter))
    for name, tensor in merged(halves, adapter):
        assert torch.equal(tensor.float(), whole[name]), name


def test_one_adapter_after_the_other_leaves_nothing_behind(base: Path, tmp_path: Path) -> None:
    folders = [save_adapter(base, tmp_path / str(seed), seed) for seed in (1, 2)]
    first, other, again = (
        dict(merged(tensors_of(base), folder)) for folder in (*folders, folders[0])
    )
    assert not torch.equal(first[Q], other[Q])
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_a_tensor_that_does_not_come_by(base: Path, adapter: Path) -> None:
    rest = ((name, tensor) for name, tensor in tensors_of(base) if name != Q)
    with pytest.raises(InputError, match=r"q_proj.*no such tensor"):
        list(merged(rest, adapter))


# --- Refused ------------------------------------------------------------------------------------


def refusal(adapter: Path, base: Path, manifest: Manifest | None = None) -> InputError:
    with pytest.raises(InputError) as caught:
        check_adapter(adapter, manifest or adapter_manifest(adapter, base), base)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("peft_type", "IA3"),
        ("use_dora", True),
        ("bias", "lora_only"),
        ("lora_bias", True),
        ("modules_to_save", ["lm_head"]),
        ("fan_in_fan_out", True),
        ("init_lora_weights", "pissa"),
        ("target_parameters", ["experts.down"]),
        ("trainable_token_indices", [1]),
        ("layer_replication", [[0, 1]]),
        ("what_peft_will_think_of_next", {"on": True}),
    ],
)
def test_what_is_more_than_two_matrices(base: Path, adapter: Path, key: str, value: object) -> None:
    change_config(adapter, **{key: value})
    error = refusal(adapter, base)
    assert error.field == key
    assert "cannot be merged" in error.problem


def change_config(adapter: Path, **values: Any) -> None:
    file = adapter / ADAPTER_CONFIG
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"r": 0}, "r"),
        ({"r": "four"}, "r"),
        ({"lora_alpha": float("nan")}, "lora_alpha"),
        ({"rank_pattern": {"(": 3}}, "rank_pattern"),
    ],
)
def test_a_config_that_makes_no_sense(
    base: Path, adapter: Path, values: dict[str, Any], field: str
) -> None:
    change_config(adapter, **values)
    assert refusal(adapter, base).field == field


@pytest.mark.parametrize("content", ["", "[]", "{", "null", '{"r": 4}'])
def test_a_config_that_cannot_be_read(base: Path, adapter: Path, content: str) -> None:
    (adapter / ADAPTER_CONFIG).write_text(content)
    assert refusal(adapter, base).file == str(adapter / ADAPTER_CONFIG)


def test_a_missing_config(base: Path, adapter: Path) -> None:
    (adapter / ADAPTER_CONFIG).unlink()
    assert "no adapter_config.json" in str(refusal(adapter, base))


Tensors = dict[str, torch.Tensor]

A, B = PREFIX + "q_proj.lora_A.weight", PREFIX + "q_proj.lora_B.weight"


def drop_pair(tensors: Tensors) -> None:
    del tensors[A], tensors[B]


def rename(tensors: Tensors) -> None:
    for half in ("A", "B"):
        name = PREFIX + f"x_proj.lora_{half}.weight"
        tensors[name] = tensors.pop(PREFIX + f"q_proj.lora_{half}.weight")


@pytest.mark.parametrize(
    ("change", "record", "problem"),
    [
        (lambda t: t.pop(A), Q.removesuffix(".weight"), "has no lora_A"),
        (lambda t: t.pop(B), Q.removesuffix(".weight"), "has no lora_B"),
        (drop_pair, Q, "no pair for it"),
        (rename, Q.replace("q_proj", "x_proj"), "no such tensor"),
        (lambda t: t.update(extra=torch.zeros(2)), "extra", "no matrix of a low-rank pair"),
        (
            lambda t: t.update({PREFIX + "q_proj.lora_magnitude_vector": torch.zeros(16)}),
            PREFIX + "q_proj.lora_magnitude_vector",
            "no matrix of a low-rank pair",
        ),
        (lambda t: t.update({A: t[A][:3].clone()}), A, "has shape [3, 16]"),
        (lambda t: t.update({A: t[A][:, :8].clone()}), A, "has shape [4, 8]"),
        (lambda t: t.update({B: t[B].T.contiguous()}), B, "has shape [4, 16]"),
        (lambda t: t.update({A: t[A].to(torch.int8)}), A, "holds I8"),
        (lambda t: t[B][2].fill_(torch.nan), B, "NaN"),
        (lambda t: t[B][2].fill_(torch.inf), B, "infinite"),
    ],
)
def test_matrices_that_do_not_fit(
    base: Path,
    adapter: Path,
    change: Callable[[Tensors], object],
    record: str,
    problem: str,
) -> None:
    tensors = load_file(adapter / ADAPTER_WEIGHTS)
    change(tensors)
    save_file(tensors, adapter / ADAPTER_WEIGHTS)
    error = refusal(adapter, base)
    assert error.record == record
    assert problem in error.problem


def test_what_is_no_module_in_memory_needs_no_pair(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    """Experts that are one parameter there, and layers that draft tokens."""
    copy = Path(shutil.copytree(base, tmp_path / "base"))
    file = copy / "model.safetensors"
    more = ("mtp.layers.0.q_proj", "model.layers.1.q_proj", "model.layers.0.experts.0.down_proj")
    tensors = load_file(file) | {f"{name}.weight": torch.zeros(2, 2) for name in more}
    save_file(tensors, file, metadata={"format": "pt"})
    check_adapter(adapter, adapter_manifest(adapter, copy), copy)
    held = load_file(adapter / ADAPTER_WEIGHTS)
    for half in ("A", "B"):  # where one expert has a pair, all have
        name = f"base_model.model.model.layers.0.experts.1.down_proj.lora_{half}.weight"
        held[name] = torch.zeros((4, 2) if half == "A" else (2, 4))
    save_file(held, adapter / ADAPTER_WEIGHTS)
    tensors["model.layers.0.experts.1.down_proj.weight"] = torch.zeros(2, 2)
    save_file(tensors, file, metadata={"format": "pt"})
    error = refusal(adapter, copy)
    assert error.record == f"{more[2]}.weight"
    assert "no pair for it" in error.problem


def test_an_adapter_for_more_layers_than_there_are(base: Path, tmp_path: Path) -> None:
    folder = save_adapter(base, tmp_path / "adapter")
    tensors = load_file(folder / ADAPTER_WEIGHTS)
    tensors |= {name.replace(".0.", ".1."): tensor.clone() for name, tensor in tensors.items()}
    save_file(tensors, folder / ADAPTER_WEIGHTS)
    assert "no such tensor" in refusal(folder, base).problem


def test_a_head_that_is_the_embeddings(originals: Path, base: Path, tmp_path: Path) -> None:
    folder = save_adapter(
        originals / "base-False", tmp_path / "adapter", target_modules=["lm_head"]
    )
    assert "no such tensor" in refusal(folder, base).problem
    copy = Path(shutil.copytree(base, tmp_path / "with-head"))
    tensors = load_file(copy / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    assert "is its embeddings" in refusal(folder, copy).problem


def test_files_that_are_not_those_of_the_manifest(base: Path, adapter: Path) -> None:
    manifest = adapter_manifest(adapter, base)
    with (adapter / ADAPTER_WEIGHTS).open("r+b") as stream:
        stream.truncate(stream.seek(0, 2) - 64)
    assert refusal(adapter, base, manifest).field == "size"


def test_nothing_runs_and_nothing_lies_elsewhere(base: Path, adapter: Path, tmp_path: Path) -> None:
    (adapter / "adapter_model.bin").write_bytes(b"\x80\x04N.")
    assert "may run code" in refusal(adapter, base).problem
    (adapter / "adapter_model.bin").unlink()
    shutil.copy(base / "model.safetensors", adapter / "model.safetensors")
    assert "no part of an adapter" in refusal(adapter, base).problem
    (adapter / "model.safetensors").unlink()
    (adapter / ADAPTER_WEIGHTS).rename(tmp_path / "elsewhere")
    (adapter / ADAPTER_WEIGHTS).symlink_to(tmp_path / "elsewhere")
    assert "is a link" in refusal(adapter, base).problem


# --- The base -----------------------------------------------------------------------------------


def test_the_digest_of_a_base_follows_its_files(base: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(base, tmp_path / "copy"))
    digest = base_digest(copy)
    assert digest == base_digest(base) == base_digest(copy)
    manifest = make_manifest(copy)
    (copy / MANIFEST_NAME).write_text(manifest.model_dump_json())
    assert base_digest(copy) == digest, "the manifest's digests are the files'"
    (copy / MANIFEST_NAME).unlink()
    shutil.copy(copy / "model.safetensors", copy / "consolidated.safetensors")
    assert base_digest(copy) == digest, "the same weights in Mistral's format"
    with (copy / "model.safetensors").open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x01")
    assert base_digest(copy) != digest
    with pytest.raises(InputError, match=r"holds no model\.safetensors"):
        base_digest(tmp_path)


def test_an_adapter_and_only_an_adapter_names_its_base(base: Path, adapter: Path) -> None:
    known = adapter_manifest(adapter, base).model_dump()
    for wrong in ({"base_digest": None}, {"kind": "full"}):
        with pytest.raises(ValueError, match="base_digest belongs to an adapter"):
            Manifest.model_validate(known | wrong)
    assert all(isinstance(entry, FileEntry) for entry in adapter_manifest(adapter, base).files)
