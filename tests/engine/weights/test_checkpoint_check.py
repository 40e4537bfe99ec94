"""What must never replace live weights is found before anything is touched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from engine.errors import InputError
from engine.weights.checkpoint_check import check_checkpoint, check_whole
from engine.weights.manifest import (
    FileEntry,
    Manifest,
    Probe,
    TensorEntry,
    file_digest,
    read_safetensors_header,
)

HEAD = "lm_head.weight"
EMBEDDINGS = "model.embed_tokens.weight"
NORM = "model.norm.weight"
WEIGHTS = "model.safetensors"


def save_model(folder: Path, *, tied: bool, seed: int) -> Path:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
    )
    LlamaForCausalLM(config).save_pretrained(folder)  # type: ignore[no-untyped-call]
    return folder


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One live and one new checkpoint of either kind, never written to."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for tied in (True, False):
        for seed, name in enumerate(("live", "new")):
            save_model(folder / f"{name}-{tied}", tied=tied, seed=seed)
    return folder


Copy = Callable[[bool], tuple[Path, Path]]


@pytest.fixture
def checkpoints(originals: Path, tmp_path: Path) -> Copy:
    """Fresh copies: (live, new)."""

    def copy(tied: bool) -> tuple[Path, Path]:
        for name in ("live", "new"):
            shutil.copytree(originals / f"{name}-{tied}", tmp_path / name)
        return tmp_path / "live", tmp_path / "new"

    return copy


def make_manifest(folder: Path) -> Manifest:
    """A manifest that tells the truth about the files, whatever they hold."""
    tensors: list[TensorEntry] = []
    for file in sorted(folder.glob("*.safetensors")):
        tensors.extend(read_safetensors_header(file))
    return Manifest(
        version="v1",
        base_model="tiny",
        dtype="float32",
        files=files_of(folder),
        tensors=tuple(tensors),
        probes=(Probe(prompt_token_ids=(1,), completion_token_ids=(2,), token_logprobs=(-0.5,)),),
    )


def files_of(folder: Path) -> tuple[FileEntry, ...]:
    return tuple(
        FileEntry(name=file.name, size=file.stat().st_size, sha256=file_digest(file))
        for file in sorted(folder.iterdir())
    )


def change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def change_config(folder: Path, **values: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def refusal(new: Path, live: Path, manifest: Manifest | None = None) -> InputError:
    with pytest.raises(InputError) as caught:
        check_checkpoint(new, manifest or make_manifest(new), live)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(new))
    return caught.value


# --- Accepted ---------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
def test_a_good_checkpoint(checkpoints: Copy, tied: bool) -> None:
    live, new = checkpoints(tied)
    tensors = load_file(new / WEIGHTS)
    assert (HEAD in tensors) is not tied
    check_checkpoint(new, make_manifest(new), live)


def test_a_tied_head_may_be_there_or_not(checkpoints: Copy) -> None:
    live, new = checkpoints(True)
    change_tensors(new, lambda tensors: tensors.update({HEAD: tensors[EMBEDDINGS].clone()}))
    check_checkpoint(new, make_manifest(new), live)
    check_checkpoint(live, make_manifest(live), new)  # the other way round: the live one holds it


def test_a_head_of_its_own_is_no_tied_one(checkpoints: Copy) -> None:
    """vLLM would copy it over tied embeddings, and keep an old one where it has untied them."""
    live, new = checkpoints(True)
    change_tensors(new, lambda tensors: tensors.update({HEAD: tensors[EMBEDDINGS] + 1}))
    error = refusal(new, live)
    assert (error.record, error.problem.partition(",")[0]) == (HEAD, "differs from the embeddings")
    check_checkpoint(new, make_manifest(new), new)
    assert refusal(live, new).record == HEAD, "it has none, where the live one has"


def test_live_names_may_lack_the_prefix_of_the_base_model(checkpoints: Copy) -> None:
    """New ones not, unless they are the same: of most families vLLM loads no such names."""
    live, new = checkpoints(True)

    def strip(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            tensors[name.removeprefix("model.")] = tensors.pop(name)

    change_tensors(live, strip)
    check_checkpoint(new, make_manifest(new), live)
    assert refusal(live, new).problem == "the tensor is missing"
    change_tensors(new, lambda tensors: tensors.pop(min(tensors)))
    assert refusal(new, live).problem == "the tensor is missing"
    change_tensors(new, strip)
    assert refusal(new, live).problem == "the tensor is missing"


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        "model.h.0.attn.bias",
        "mtp.layers.0.mlp.up_proj.weight",
        "model.mtp_block.0.norm.weight",
        "model.layers.1.eh_proj.weight",  # the model has one layer
    ],
)
def test_what_transformers_passes_over_is_no_weight(checkpoints: Copy, name: str) -> None:
    live, new = checkpoints(False)
    change_tensors(live, lambda tensors: tensors.update({name: torch.ones(4)}))
    check_checkpoint(new, make_manifest(new), live)
    check_checkpoint(live, make_manifest(live), new)


def test_a_tower_has_layers_of_its_own(checkpoints: Copy) -> None:
    live, new = checkpoints(False)
    name = "vision_tower.layers.1.norm.weight"
    change_tensors(live, lambda tensors: tensors.update({name: torch.ones(4)}))
    assert refusal(new, live).record == name


def test_the_same_weights_in_another_format_beside_them(checkpoints: Copy) -> None:
    live, new = checkpoints(False)
    save_file({"layers.0.attention.wq.weight": torch.ones(2)}, live / "consolidated.safetensors")
    check_checkpoint(new, make_manifest(new), live)


def test_configs_of_parts_may_differ_in_what_means_nothing(checkpoints: Copy) -> None:
    live, new = checkpoints(False)
    parts = {"text_config": {"dtype": "float32", "layers": [{"use_cache": True}]}}
    change_config(new, **parts)
    change_config(live, text_config={"dtype": None, "layers": [{"use_cache": True}]})
    check_checkpoint(new, make_manifest(new), live)
    change_config(live, text_config={"dtype": None, "layers": [{"use_cache": False}]})
    assert refusal(new, live).field == "text_config"


def test_weights_of_eight_bits_are_looked_at(checkpoints: Copy) -> None:
    live, new = checkpoints(False)
    for folder in (live, new):
        change_tensors(
            folder,
            lambda tensors: tensors.update({NORM: tensors[NORM].to(torch.float8_e4m3fn)}),
        )
    check_checkpoint(new, make_manifest(new), live)
    broken = torch.full((16,), float("nan")).to(torch.float8_e4m3fn)
    change_tensors(new, lambda tensors: tensors.update({NORM: broken}))
    assert refusal(new, live).record == NORM


def test_several_weight_files(checkpoints: Copy) -> None:
    live, new = checkpoints(False)
    tensors = load_file(new / WEIGHTS)
    (new / WEIGHTS).unlink()
    names = sorted(tensors)
    for number, part in enumerate((names[:3], names[3:]), start=1):
        save_file({name: tensors[name] for name in part}, new / f"model-{number}.safetensors")
    check_checkpoint(new, make_manifest(new), live)


def test_what_does_not_change_the_meaning_of_weights_may_differ(checkpoints: Copy) -> None:
    live, new = checkpoints(True)
    trained = {"output_router_logits": True, "router_aux_loss_coef": 0.01}  # by TRL
    named = {"transformers_version": "4.0.0", "_name_or_path": "x"}
    change_config(new, use_cache=False, eos_token_id=7, attention_dropout=0.1, **named, **trained)
    for folder in (live, new):
        change_config(folder, id2label={"0": "a", "1": "b"})
    check_checkpoint(new, make_manifest(new), live)


def test_the_live_model_may_be_no_folder(checkpoints: Copy, tmp_path: Path) -> None:
    _, new = checkpoints(True)
    check_checkpoint(new, make_manifest(new), tmp_path / "hub" / "model-id")


# --- Refused ----------------------------------------------------------------------------------


def test_a_missing_tensor(checkpoints: Copy) -> None:
    live, new = checkpoints(True)
    change_tensors(new, lambda tensors: tensors.pop(NORM))
    error = refusal(new, live)
    assert (error.record, error.problem) == (NORM, "the tensor is missing")


def test_half_of_a_fused_tensor_missing(checkpoints: Copy) -> None:
    live, new = checkpoints(True)
    half = "model.layers.0.mlp.gate_proj.weight"
    change_tensors(new, lambda tensors: tensors.pop(half))
    assert refusal(new, live).record == half


def test_a_missing_head_of_an_untied_model(checkpoints: Copy) -> None:
    live, new = checkpoints(False)
    change_tensors(new, lambda tensors: tensors.pop(HEAD))
    assert refusal(new, live).record == HEAD


def test_an_extra_tensor(checkpoints: Copy) -> None:
    live, new = checkpoints(True)
    change_tensors(new, lambda tensors: tensors.update(extra=torch.zeros(2)))
    error = refusal(new, live)
    assert (error.record, error.problem) == ("extra", "the live model has no such tensor")


def test_another_shape(checkpoints: Copy) -> None:
    live, new = checkpoints(True)
    change_tensors(new, lambda tensors: tensors.update({NORM: torch.ones(17)}))
    error = refusal(new, live)
    assert (error.record, error.field) == (NORM, "shape")
    assert error.problem == "has shape [17], the live model [16]"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_one_value_that_is_not_finite(checkpoints: Copy, value: float, dtype: torch.dtype) -> None:
    live, new = checkpoints(True)

    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors.update({name: tensor.to(dtype) for name, tensor in tensors.items()})
        tensors[EMBEDDINGS][3, 5] = value

    change_tensors(new, spoil)
    error = refusal(new, live)
    assert (error.record, error.problem) == (EMBEDDINGS, "holds NaN or infinite values")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_type", "mistral"),
        ("num_attention_heads", 4),  # no tensor has another shape for it
        ("rms_norm_eps", 0.5),
        ("hidden_act", "gelu"),
        ("tie_word_embeddings", False),
    ],
)
def test_another_architecture(checkpoints: Copy, field: str, value: object) -> None:
    live, new = checkpoints(True)
    change_config(new, **{field: value})
    error = refusal(new, live)
    assert error.file == str(new / "config.json")
    if field != "model_type":  # another type differs in more, and the first is named
        assert error.field in (field, "head_dim")


def test_a_tied_checkpoint_for_an_untied_model(originals: Path) -> None:
    new, live = originals / "new-True", originals / "live-False"
    assert refusal(new, live).record == HEAD


@pytest.mark.parametrize("content", ["{", '{"model_type": "no-such-model"}', "{}"])
def test_a_config_that_cannot_be_read(checkpoints: Copy, content: str) -> None:
    live, new = checkpoints(True)
    (new / "config.json").write_text(content)
    assert refusal(new, live).file == str(new / "config.json")


# --- Files that are not what the manifest says --------------------------------------------------


def truncate(file: Path, n_bytes: int) -> None:
    with file.open("r+b") as stream:
        stream.truncate(file.stat().st_size - n_bytes)


def test_a_truncated_file(checkpoints: Copy) -> None:
    live, new = checkpoints(True)
    manifest = make_manifest(new)
    truncate(new / WEIGHTS, 100)
    error = refusal(new, live, manifest)
    assert (error.record, error.field) == (WEIGHTS, "size")


def test_a_file_truncated_before_the_manifest_was_written(checkpoints: Copy) -> None:
    live, new = checkpoints(True)
    manifest = make_manifest(new)
    truncate(new / WEIGHTS, 100)
    manifest = manifest.model_copy(update={"files": files_of(new)})
    assert "is not whole: has " in str(refusal(new, live, manifest))


def damage_pointer(folder: Path) -> None:
    (folder / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\n")


def damage_index(folder: Path) -> None:
    shard = "model-1-of-2.safetensors"
    (folder / WEIGHTS).rename(folder / shard)
    index = {"weight_map": {NORM: shard, HEAD: "model-2-of-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda folder: truncate(folder / WEIGHTS, 1), "model.safetensors: is not whole: has "),
        (damage_pointer, "model.safetensors: is a Git LFS pointer, not weights (git lfs pull)"),
        (damage_index, "index.json: names model-2-of-2.safetensors, which is missing"),
        (lambda folder: (folder / WEIGHTS).write_bytes(b""), "safetensors: not a safetensors file"),
    ],
)
def test_a_model_that_is_not_whole_is_told_before_it_is_loaded(
    checkpoints: Copy, damage: Callable[[Path], object], problem: str
) -> None:
    folder, _ = checkpoints(True)
    check_whole(str(folder))
    damage(folder)
    with pytest.raises(InputError) as caught:
        check_whole(str(folder))
    assert problem in str(caught.value)


def test_the_config_of_a_model_with_code_is_compared_as_it_is_written(checkpoints: Copy) -> None:
    live, new = checkpoints(True)
    code = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.Own"}
    for folder in (live, new):
        change_config(folder, model_type="own-kind", auto_map=code)
    check_checkpoint(new, make_manifest(new), live)
    change_config(new, output_attentions=False)  # a default, which one of two writers leaves out
    check_checkpoint(new, make_manifest(new), live)
    change_config(new, hidden_size=7)
    assert refusal(new, live).field == "hidden_size"


def test_what_has_no_safetensors_is_left_to_those_who_load_it(tmp_path: Path) -> None:
    check_whole(str(tmp_path))
    check_whole("organisation/model")
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "1.safetensors"}}')
    check_whole(str(tmp_path), load_format="dummy")
    with pytest.raises(InputError, match=r"names 1.safetensors, which is missing"):
        check_whole(str(tmp_path))
    (tmp_path / "pytorch_model.bin").touch()
    check_whole(str(tmp_path))


def test_one_changed_byte(checkpoints: Copy) -> None:
    live, new = checkpoints(True)
    manifest = make_manifest(new)
    with (new / WEIGHTS).open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x01")
    error = refusal(new, live, manifest)
    assert (error.file, error.field) == (str(new / WEIGHTS), "sha256")


def test_a_missing_file(checkpoints: Copy) -> None:
    live, new = checkpoints(True)
    manifest = make_manifest(new)
    (new / "config.json").unlink()
    error = refusal(new, live, manifest)
    assert (error.record, error.problem) == ("config.json", "the file is missing")


def test_a_weight_file_that_nobody_listed(checkpoints: Copy) -> None:
    live, new = checkpoints(True)
    manifest = make_manifest(new)
    save_file({"more": torch.zeros(1)}, new / "more.safetensors")
    assert refusal(new, live, manifest).file == str(new / "more.safetensors")


def test_a_manifest_with_other_tensors_than_the_files(checkpoints: Copy) -> None:
    live, new = checkpoints(True)
    manifest = make_manifest(new)
    fewer = manifest.model_copy(update={"tensors": manifest.tensors[1:]})
    assert "the manifest's tensors are not those" in str(refusal(new, live, fewer))


def test_no_weights_at_all(checkpoints: Copy) -> None:
    live, new = checkpoints(True)
    manifest = make_manifest(new)
    (new / WEIGHTS).unlink()
    kept = tuple(entry for entry in manifest.files if entry.name != WEIGHTS)
    error = refusal(new, live, manifest.model_copy(update={"files": kept}))
    assert error.problem == "holds no safetensors weights"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234567",
        b"\x00" * 16,
        b"\xff" * 16,
        b"\x03" + b"\x00" * 7 + b"[1]",
        b"\x04" + b"\x00" * 7 + b"null",
    ],
)
def test_what_is_no_safetensors_file(checkpoints: Copy, content: bytes) -> None:
    live, new = checkpoints(True)
    manifest = make_manifest(new)
    (new / WEIGHTS).write_bytes(content)
    entries = tuple(
        FileEntry(name=file.name, size=file.stat().st_size, sha256=file_digest(file))
        for file in sorted(new.iterdir())
    )
    error = refusal(new, live, manifest.model_copy(update={"files": entries}))
    assert error.file == str(new / WEIGHTS)


# --- Nothing runs -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pytorch_model.bin", "adapter.pt", "extra.pkl"])
def test_a_pickle(checkpoints: Copy, name: str) -> None:
    live, new = checkpoints(True)
    (new / name).write_bytes(b"\x80\x04N.")
    assert "may run code" in str(refusal(new, live))


def test_code_that_the_live_model_does_not_have(checkpoints: Copy) -> None:
    live, new = checkpoints(True)
    (new / "modeling.py").write_text("print('hello')\n")
    assert "is code" in str(refusal(new, live))
    (live / "modeling.py").write_text("print('hello')\n")
    check_checkpoint(new, make_manifest(new), live)


def test_a_link_to_files_elsewhere(checkpoints: Copy, tmp_path: Path) -> None:
    live, new = checkpoints(True)
    (new / WEIGHTS).rename(tmp_path / WEIGHTS)
    (new / WEIGHTS).symlink_to(tmp_path / WEIGHTS)
    assert "is a link" in str(refusal(new, live))


def test_another_kind_of_number(checkpoints: Copy) -> None:
    live, new = checkpoints(True)
    change_tensors(new, lambda tensors: tensors.update({NORM: tensors[NORM].bfloat16()}))
    check_checkpoint(new, make_manifest(new), live)
    change_tensors(new, lambda tensors: tensors.update({NORM: tensors[NORM].to(torch.int8)}))
    error = refusal(new, live)
    assert (error.record, error.field) == (NORM, "dtype")
