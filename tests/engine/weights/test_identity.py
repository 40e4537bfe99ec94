"""What a server serves is told by content: equal where the numbers are, another where not."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InputError
from engine.protocol.served_model import template_identity, tokenizer_identity
from engine.weights.identity import open_tokenizer, weights_identity
from tests.engine.small_tokenizers import gpt2
from tests.engine.weights.served import SERVED, live

MIB = 1 << 20


def tokenizer() -> Any:
    return copy.deepcopy(gpt2())


def make_model(folder: Path, content: bytes, **config: Any) -> Path:
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(content)
    (folder / "config.json").write_text(json.dumps({"hidden_size": 8} | config))
    return folder


def test_the_same_weights_elsewhere_are_the_same(tmp_path: Path) -> None:
    one = make_model(tmp_path / "one", b"weights", _name_or_path="one")
    two = make_model(tmp_path / "two", b"weights", transformers_version="9", dtype="float32")
    (two / "README.md").write_text("of no matter")
    assert weights_identity(one) == weights_identity(two)
    assert weights_identity(tmp_path / "org" / "hub-id") is None
    single = tmp_path / "model.gguf"  # vLLM serves such a file, or a folder without config.json
    single.write_bytes(b"weights")
    assert weights_identity(single) != weights_identity(one)
    (two / "config.json").unlink()
    assert weights_identity(two) not in (None, weights_identity(one))


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
def test_a_tokenizer_that_cannot_be_loaded_is_told(file: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / file).write_text("{")
    with pytest.raises(InputError, match="its tokenizer cannot be loaded: ") as caught:
        open_tokenizer(str(tmp_path), "--model", trust_remote_code=False)
    assert (caught.value.file, caught.value.field) == (str(tmp_path), "--model")
    assert "\n" not in str(caught.value)


def test_other_weights_are_others(tmp_path: Path) -> None:
    kinds = [
        make_model(tmp_path / "a", b"weights"),
        make_model(tmp_path / "b", b"weighty"),
        make_model(tmp_path / "c", b"weights" * 2),
        make_model(tmp_path / "d", b"weights", rope_theta=1e6),
        make_model(tmp_path / "e", b"weights"),
    ]
    (kinds[-1] / "model.safetensors").rename(kinds[-1] / "part.safetensors")
    assert len({weights_identity(kind) for kind in kinds}) == len(kinds)


def test_large_files_are_told_by_samples_all_over(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "large", b"")
    weights = folder / "model.safetensors"
    with weights.open("wb") as stream:
        stream.truncate(65 * MIB)  # holes, nothing is written
    before = weights_identity(folder)
    assert before == weights_identity(folder)
    with weights.open("r+b") as stream:
        stream.seek(64 * MIB + 100)
        stream.write(b"!")
    assert weights_identity(folder) != before


@pytest.mark.parametrize("text", ["no json", "[1]"])
def test_a_folder_that_is_no_model_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=tmp_path.name):
        weights_identity(tmp_path)


def test_a_tokenizer_is_told_by_its_rules() -> None:
    one, two = tokenizer(), tokenizer()
    two.backend_tokenizer.enable_truncation(5)
    two.backend_tokenizer.enable_padding(length=9)
    assert tokenizer_identity(one) == tokenizer_identity(two)
    two.add_tokens(["<new>"])
    assert tokenizer_identity(one) != tokenizer_identity(two)
    three = tokenizer()
    three.eos_token = "a"  # gold outputs end in it
    assert tokenizer_identity(one) != tokenizer_identity(three)
    assert template_identity(one) is None
    two.chat_template = "{{ messages }}"
    three.chat_template = {"default": "{{ messages }}"}
    assert len({template_identity(each) for each in (one, two, three)}) == 3


class Slow:
    """A tokenizer without a fast backend."""

    bos_token_id, eos_token_id = None, 2

    def __init__(self, **vocabulary: int) -> None:
        self.vocabulary = vocabulary

    def get_vocab(self) -> dict[str, int]:
        return self.vocabulary

    def encode(self, text: str) -> list[int]:
        return [self.vocabulary.get(word, 0) for word in text.split()]


class CachedSlow(Slow):
    """As vLLM wraps it."""


CachedSlow.__name__ = "CachedSlow"


def test_slow_tokenizers_are_told_by_vocabulary_and_outcome() -> None:
    assert tokenizer_identity(Slow(a=1)) == tokenizer_identity(CachedSlow(a=1))
    assert tokenizer_identity(Slow(a=1)) != tokenizer_identity(Slow(a=2))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("weights", "3" * 64),
        ("tokenizer", "3" * 64),
        ("chat_template", "3" * 64),
        ("max_model_len", 4096),
        ("dtype", "bfloat16"),
    ],
)
def test_every_part_is_in_the_version_and_named(field: str, value: object) -> None:
    other = SERVED.model_copy(update={field: value})
    assert other.version != SERVED.version
    one = live(SERVED.version, "/one")
    two = one.model_copy(update={"served": other, "version": other.version, "path": "/two"})
    found = one.difference(two)
    assert found is not None
    assert f"/one ({one.version}) and /two ({two.version}): " in found
    assert ("other weights" if field == "weights" else field) in found
    # Loaded weights replace those of the start, and nothing else.
    reloaded = one.model_copy(update={"version": "round-00-abc"})
    assert (reloaded.difference(two) is None) == (field == "weights")


def test_names_are_not_in_the_version() -> None:
    moved = SERVED.model_copy(update={"model": "/elsewhere", "tokenizer_model": "/elsewhere"})
    assert moved.version == SERVED.version
    assert moved.version.startswith("base-")
    assert len(moved.version) == 17


def test_prompts_of_another_tokenizer_are_refused() -> None:
    own = tokenizer()
    served = SERVED.model_copy(update={"tokenizer": tokenizer_identity(own)})
    served.check_tokenizer(own, "own")
    own.chat_template = "{{ messages }}"
    with pytest.raises(InputError, match=r"some/model, whose chat template \(none\) .* of own \("):
        served.check_tokenizer(own, "own")
    with pytest.raises(InputError, match=r"some/model, whose tokenizer \(222222222222\) is not"):
        SERVED.check_tokenizer(own, "own")
