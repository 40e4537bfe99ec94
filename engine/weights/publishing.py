"""Publishing: a folder of weights gets a manifest, and is on disk before anybody can load it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from engine.errors import InputError
from engine.files import cannot_write, is_part, sync_file, sync_folder, write_json
from engine.weights.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS, read_config
from engine.weights.adapter_check import base_digest
from engine.weights.checkpoint_check import (
    WEIGHTS_INDEX,
    read_weights_index,
    weight_files,
    without_weights,
)
from engine.weights.manifest import (
    MANIFEST_NAME,
    FileEntry,
    Manifest,
    Precision,
    Probe,
    TensorEntry,
    file_digest,
    read_safetensors_header,
    weights_digest,
)
from engine.weights.models import local_folder

TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "vocab*",
    "merges.txt",
    "*.model",
    "*.tiktoken",
)
"""Patterns of a tokenizer's files in a model's folder."""

PROCESSOR_FILES = ("*processor_config.json",)
"""Of a model that takes images, sounds or videos, which vLLM starts with them only."""

_MODEL_FILES = (
    "config.json",
    "generation_config.json",
    WEIGHTS_INDEX,
    "*.py",
    *TOKENIZER_FILES,
    *PROCESSOR_FILES,
)
_ADAPTER_FILES = (ADAPTER_CONFIG, ADAPTER_WEIGHTS, *TOKENIZER_FILES)


def describe(
    folder: Path, name: str, *, base_model: str, dtype: Precision, probes: Sequence[Probe]
) -> Manifest:
    """The manifest of a folder that has none yet.

    The version is the name and the first 12 hex digits of the digest of all weight files, so it
    names one set of weights only. The digest of an adapter covers its config and its base as well.

    Args:
        name: What the version begins with.
        base_model: What the training started from, a folder or hub id; for an adapter, what it is
            to be merged into.
        dtype: Data type that the probes were computed in.

    Raises:
        InputError: If the folder holds no safetensors file, or one tensor twice; or if an adapter
            cannot be merged, or its base has no files here.
    """
    files = tuple(
        FileEntry(name=path.name, size=path.stat().st_size, sha256=file_digest(path))
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != MANIFEST_NAME and not is_part(path)
    )
    weights = [entry for entry in files if entry.name.endswith(".safetensors")]
    if not weights:
        raise InputError("holds no safetensors file", file=folder)
    tensors: dict[str, TensorEntry] = {}
    for entry in weights:
        for tensor in read_safetensors_header(folder / entry.name):
            if tensor.name in tensors:
                raise InputError("is there twice", file=folder, record=tensor.name)
            tensors[tensor.name] = tensor
    decisive = {entry.name: entry.sha256 for entry in weights}
    base = None
    if (folder / ADAPTER_CONFIG).is_file():
        base = base_digest(local_folder(base_model))
        decisive |= {ADAPTER_CONFIG: read_config(folder).digest, "base": base}
    return Manifest(
        version=f"{name}-{weights_digest(decisive)[:12]}",
        kind="full" if base is None else "lora",
        base_model=base_model,
        base_digest=base,
        dtype=dtype,
        files=files,
        tensors=tuple(tensors[name] for name in sorted(tensors)),
        probes=tuple(probes),
    )


def unverified_version(folder: Path) -> str:
    """The version of weights for which no trainer vouches."""
    weights = {path.name: file_digest(path) for path in folder.glob("*.safetensors")}
    return f"unverified-{weights_digest(weights)[:12]}"


def seal(folder: Path, manifest: Manifest) -> None:
    """Sync all files of a folder and write the manifest, last."""
    for entry in manifest.files:
        sync_file(folder / entry.name)
    write_json(folder / MANIFEST_NAME, manifest.model_dump(mode="json"))


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """A folder to fill beside `target`; when the block is through, it is renamed into place.

    Raises:
        InputError: If `target` is there already, or cannot be written.
    """
    if target.exists():
        raise InputError("is there already; name another folder", file=target)
    with part_folder(target) as part:
        yield part
        part.rename(target)
        sync_folder(target.parent)


@contextmanager
def part_folder(target: Path) -> Iterator[Path]:
    """A folder to fill beside `target`, which is gone afterwards unless it was renamed.

    Raises:
        InputError: If it cannot be written.
    """
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        yield part
    except (OSError, SafetensorError) as error:
        raise cannot_write(target, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def is_being_written(part: Path) -> bool:
    """Whether a folder is one of `part_folder` whose process lives, as far as one can tell here."""
    *_, number, ending = ("", *part.name.split("."))
    return ending == "part" and number.isdecimal() and Path(f"/proc/{number}").exists()


def published_files(folder: Path) -> list[Path]:
    """The files of a trainer's output that belong into a published checkpoint.

    Optimizer states, logs and the like stay behind.

    Raises:
        InputError: If it holds no model, no safetensors weights, only some of them, or no
            tokenizer.
    """
    if not folder.is_dir():
        raise InputError("no such folder", file=folder)
    if (folder / ADAPTER_CONFIG).is_file():
        if not (folder / ADAPTER_WEIGHTS).is_file():
            raise without_weights(folder, ADAPTER_WEIGHTS)
        return _matching(folder, _ADAPTER_FILES)
    if not (folder / "config.json").is_file():
        raise InputError("holds no config.json, so it is not a model", file=folder)
    weights = weight_files(folder)
    if (folder / WEIGHTS_INDEX).is_file():
        held = {entry.name for shard in weights for entry in read_safetensors_header(shard)}
        for name in sorted(held ^ read_weights_index(folder).keys()):
            raise InputError("the index and its files do not agree on it", file=folder, record=name)
    if not any(_matching(folder, TOKENIZER_FILES)):
        raise InputError("holds no tokenizer; save it beside the model", file=folder)
    return [*weights, *_matching(folder, _MODEL_FILES)]


def link_or_copy(source: Path, target: Path, *, copy: bool = False) -> None:
    """A hard link to a file, links followed; a copy where there can be none, or if asked for."""
    source = source.resolve()
    if not copy:
        with suppress(OSError):  # another file system, or one without hard links
            target.hardlink_to(source)
            return
    shutil.copyfile(source, target)


def _matching(folder: Path, patterns: Sequence[str]) -> list[Path]:
    return sorted({path for each in patterns for path in folder.glob(each) if path.is_file()})
