"""What transformers and peft save becomes loadable, and what cannot is told in a line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from engine.errors import InputError
from engine.weights import publishing
from engine.weights.adapter_check import check_adapter
from engine.weights.checkpoint_check import check_checkpoint
from engine.weights.manifest import MANIFEST_NAME, read_manifest
from engine.weights.probing import probe_logprobs
from tests.engine.small_tokenizers import gpt2
from tests.training.tiny import make_tiny_model, make_tokenizer, save_tiny_model
from training.commands.publish_folder import ProbeSettings, publish_folder


def save(folder: Path, dtype: str, *, tied: bool, family: str = "llama", shards: bool) -> Path:
    tokenizer = make_tokenizer() if family == "llama" else gpt2()
    model = make_tiny_model(tied, 1, tokenizer, family, vocab_size=448).to(getattr(torch, dtype))
    model.save_pretrained(folder, max_shard_size="8KB" if shards else "5GB")
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("family", "dtype", "tied", "shards"),
    [
        ("llama", "float32", True, True),
        ("llama", "bfloat16", False, False),
        ("qwen2", "bfloat16", True, True),
        ("gpt2", "float16", True, True),
    ],
)
def test_a_saved_model_is_proved_in_its_own_precision(
    tmp_path: Path, family: str, dtype: str, tied: bool, shards: bool
) -> None:
    folder = save(tmp_path / "out 1", dtype, tied=tied, family=family, shards=shards)
    (folder / "optimizer.pt").write_bytes(b"no part of it")
    processors = {f"{kind}processor_config.json" for kind in ("", "pre", "video_pre")}
    for name in processors:
        (folder / name).write_text("{}")
    manifest = publish_folder(folder, tmp_path / "published")
    assert read_manifest(tmp_path / "published") == manifest
    assert manifest.version.startswith("out-1-")
    assert (len(manifest.weight_files) > 1) is shards
    assert not (tmp_path / "published" / "optimizer.pt").exists()
    assert processors <= {entry.name for entry in manifest.files}
    for entry in manifest.files:
        assert (folder / entry.name).samefile(tmp_path / "published" / entry.name)
    check_checkpoint(tmp_path / "published", manifest, folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    model.eval()
    assert manifest.dtype == dtype
    assert manifest.probes == probe_logprobs(model, manifest.probes)
    assert len(manifest.probes) == 8


def test_where_it_is_with_the_prompts_of_a_pool(tmp_path: Path) -> None:
    folder = save(tmp_path / "out", "float32", tied=True, shards=False)
    task = {"instruction": "say color of", "input": "sky", "output": "blue"}
    (tmp_path / "pool.json").write_text(json.dumps([task, task | {"input": "grass"}]))
    pool = ProbeSettings(pool=str(tmp_path / "pool.json"))
    manifest = publish_folder(folder, settings=pool, name="mine")
    assert read_manifest(folder) == manifest
    assert manifest.version.startswith("mine-")
    color = make_tokenizer().convert_tokens_to_ids("color")
    assert all(color in probe.prompt_token_ids for probe in manifest.probes)
    with pytest.raises(InputError, match="is published already: mine-"):
        publish_folder(folder)


def test_a_copy_does_not_follow_what_is_written_later(tmp_path: Path) -> None:
    folder = save(tmp_path / "out", "float32", tied=True, shards=False)
    publish_folder(folder, tmp_path / "copied", copy=True)
    assert not (folder / "config.json").samefile(tmp_path / "copied" / "config.json")


def test_an_adapter_of_plain_peft(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "base", tied=True)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    adapted: Any = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    adapted.save_pretrained(tmp_path / "out")
    manifest = publish_folder(tmp_path / "out", tmp_path / "adapter")
    assert manifest.kind == "lora"
    assert manifest.dtype == "float32"
    check_adapter(tmp_path / "adapter", manifest, tmp_path / "base")
    whole = adapted.merge_and_unload().eval()
    expected = [probe.token_logprobs for probe in probe_logprobs(whole, manifest.probes)]
    for probe, values in zip(manifest.probes, expected, strict=True):
        assert probe.token_logprobs == pytest.approx(values, abs=1e-5)
    (tmp_path / "base").rename(tmp_path / "moved")
    with pytest.raises(InputError, match="is not here; name it with --base"):
        publish_folder(tmp_path / "out")
    elsewhere = ProbeSettings(base=str(tmp_path / "moved"))
    again = publish_folder(tmp_path / "out", tmp_path / "again", settings=elsewhere)
    assert again.version.split("-")[-1] == manifest.version.split("-")[-1]


def without(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def without_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


def pickled(folder: Path) -> None:
    for path in folder.glob("model*"):
        path.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")


def changed(tensor: str, change: Callable[[dict[str, torch.Tensor]], object]) -> Any:
    def damage(folder: Path) -> None:
        file = folder / json.loads((folder / INDEX).read_text())["weight_map"][tensor]
        tensors = load_file(file)
        change(tensors)
        save_file(tensors, file, metadata={"format": "pt"})

    return damage


def cut(folder: Path) -> None:
    file = sorted(folder.glob("*.safetensors"))[0]
    file.write_bytes(file.read_bytes()[:-64])


def larger_vocabulary(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 99}))


def forget(folder: Path) -> None:
    """A tensor is neither in the files nor in the index."""
    changed(NORM, lambda tensors: tensors.pop(NORM))(folder)
    index = json.loads((folder / INDEX).read_text())
    del index["weight_map"][NORM]
    (folder / INDEX).write_text(json.dumps(index))


INDEX, NORM = "model.safetensors.index.json", "model.norm.weight"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "no such folder"),
        (without("config.json"), "holds no config.json"),
        (without_tokenizer, "holds no tokenizer"),
        (pickled, r"pytorch_model.bin: may run code.*save the weights as model.safetensors"),
        (lambda f: sorted(f.glob("*.safetensors"))[2].unlink(), "names model-0.*is missing"),
        (changed(NORM, lambda t: t.pop(NORM)), "norm.weight: the index and its files do not"),
        (changed(NORM, lambda t: t[NORM].fill_(torch.nan)), "norm.weight: holds NaN"),
        (forget, "model.norm.weight: the tensor is missing"),
        (cut, "is not whole: has"),
        (larger_vocabulary, r"has shape \[448, 32\], the config wants \[99, 32\]"),
        (lambda f: (f / "config.json").write_text("{"), "transformers cannot load it"),
        (lambda f: (f / "config.json").write_text('{"model_type": "x"}'), "cannot load it"),
    ],
)
def test_what_cannot_be_published_is_told_in_a_line(
    tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    folder = save(tmp_path / "out", "float32", tied=True, shards=True)
    damage(folder)
    with pytest.raises(InputError, match=message) as caught:
        publish_folder(folder, tmp_path / "published")
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} <= {"out"}


def test_nothing_half_written_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(tmp_path / "out", "float32", tied=True, shards=False)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(publishing, "sync_file", full)
    with pytest.raises(InputError, match="cannot be written: No space left"):
        publish_folder(folder, tmp_path / "published")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not (folder / MANIFEST_NAME).exists()


def test_where_it_is_nothing_may_run_or_stand_elsewhere(tmp_path: Path) -> None:
    folder = save(tmp_path / "out", "float32", tied=True, shards=False)
    (folder / "config.json").rename(tmp_path / "config.json")
    (folder / "config.json").symlink_to(tmp_path / "config.json")
    with pytest.raises(InputError, match=r"config.json: is a link"):
        publish_folder(folder)
    (folder / "training_args.bin").write_bytes(b"")
    publish_folder(folder, tmp_path / "published")
    (folder / "config.json").unlink()
    (tmp_path / "config.json").rename(folder / "config.json")
    with pytest.raises(InputError, match=r"training_args.bin: may run code"):
        publish_folder(folder)
