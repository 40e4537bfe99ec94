"""The manifest of a published checkpoint: what it holds, and how to prove that it is live.

The trainer, which has the model in memory, writes the manifest; the server compares the files with
it before it touches its own weights, and scores the probes after the load. Both sides read it here.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from engine.errors import InputError
from engine.files import read_json
from engine.protocol.api import TokenIds
from engine.protocol.weights_state import WeightsKind
from engine.tasks import Record

MANIFEST_NAME = "manifest.json"
"""File name inside a checkpoint folder. It is written last: a folder without it is unfinished."""

_MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors format itself

Precision = Literal["float32", "bfloat16", "float16"]

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class FileEntry(Record):
    """One file of the checkpoint, the manifest itself excepted.

    Attributes:
        name: Plain file name inside the folder, without any separator.
        size: Bytes.
        sha256: Of the whole file, 64 hex digits.
    """

    name: Annotated[str, Field(min_length=1, pattern=r"^[^/\\]+$")]
    size: Annotated[int, Field(ge=0)]
    sha256: Sha256

    @field_validator("name")
    @classmethod
    def _stay_inside(cls, name: str) -> str:
        if name in {".", ".."}:
            raise ValueError("must name a file inside the checkpoint folder")
        return name


class TensorEntry(Record):
    """One tensor, as a safetensors header describes it.

    Attributes:
        name: Parameter name in the checkpoint.
        shape: Its dimensions; empty for a scalar.
        dtype: The safetensors name: `F32`, `BF16`, `F16`, ...
    """

    name: Annotated[str, Field(min_length=1)]
    shape: tuple[Annotated[int, Field(ge=0)], ...]
    dtype: str


class Probe(Record):
    """A pair with the log-probabilities that the trainer's model in memory gives it.

    Attributes:
        prompt_token_ids: The prompt.
        completion_token_ids: The completion.
        token_logprobs: Natural log-probability of each completion token, <= 0, as many as tokens.
    """

    prompt_token_ids: TokenIds
    completion_token_ids: TokenIds
    token_logprobs: tuple[Annotated[float, Field(le=0)], ...]

    @model_validator(mode="after")
    def _one_each(self) -> Probe:
        if len(self.token_logprobs) != len(self.completion_token_ids):
            raise ValueError("needs one log-probability per completion token")
        if not all(math.isfinite(value) for value in self.token_logprobs):
            raise ValueError("log-probabilities must be finite")
        return self


class Manifest(Record):
    """What a published checkpoint folder holds.

    Attributes:
        schema_version: Of this record.
        version: The weights version. It ends in a digest of the weight files, so it names one set
            of weights only.
        kind: `full` for all weights of a model, `lora` for an adapter to be merged into its base.
        base_model: The model the training started from (a folder or a hub id).
        base_digest: Digest of that model's weight files (`weights_digest`); an adapter has one.
        dtype: Data type the probes were computed in: `float32`, `bfloat16` or `float16`. The
            tolerance of their verification depends on it.
        files: All files but the manifest, by name.
        tensors: All tensors of all weight files, by name.
        probes: Pairs to score after a load, before the version changes.
    """

    schema_version: Literal[1] = 1
    version: Annotated[str, Field(min_length=1)]
    kind: WeightsKind = "full"
    base_model: str
    base_digest: Sha256 | None = None
    dtype: Precision
    files: Annotated[tuple[FileEntry, ...], Field(min_length=1)]
    tensors: Annotated[tuple[TensorEntry, ...], Field(min_length=1)]
    probes: Annotated[tuple[Probe, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _an_adapter_names_its_base(self) -> Manifest:
        if (self.kind == "lora") != (self.base_digest is not None):
            raise ValueError("base_digest belongs to an adapter, and every adapter has one")
        return self

    @property
    def weight_files(self) -> tuple[FileEntry, ...]:
        """The safetensors files among the files."""
        return tuple(entry for entry in self.files if entry.name.endswith(".safetensors"))


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a published checkpoint.

    Raises:
        InputError: If there is none (the checkpoint is unfinished or no checkpoint at all), or it
            cannot be read or does not follow the schema.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        problem = "not a published checkpoint: it has no manifest.json"
        raise InputError(f"{problem}; jostle publish {folder} makes it one", file=folder)
    return read_json(path, Manifest)


def check_files(folder: Path, manifest: Manifest) -> None:
    """Compare size and sha256 of every file with the manifest.

    Raises:
        InputError: Naming the first file that is missing or differs, or a weight file that the
            manifest does not list.
    """
    for entry in manifest.files:
        path = folder / entry.name
        if not path.is_file():
            raise InputError("the file is missing", file=folder, record=entry.name)
        if path.stat().st_size != entry.size:
            raise InputError(
                f"holds {path.stat().st_size} bytes, the manifest says {entry.size}",
                file=folder,
                record=entry.name,
                field="size",
            )
        if file_digest(path) != entry.sha256:
            raise InputError("differs from the manifest", file=path, field="sha256")
    listed = {entry.name for entry in manifest.files}
    for path in sorted(folder.glob("*.safetensors")):
        if path.name not in listed:
            raise InputError("the manifest does not list this weight file", file=path)


def file_digest(path: Path) -> str:
    """sha256 of a file as 64 hex digits, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def weights_digest(files: Mapping[str, str]) -> str:
    """One digest for a set of weight files, independent of their order.

    Args:
        files: sha256 by file name.
    """
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name} {files[name]}\n".encode())
    return digest.hexdigest()


def read_safetensors_header(path: Path) -> tuple[TensorEntry, ...]:
    """The tensors of one safetensors file, by name, from its header alone.

    Raises:
        InputError: If the file is not in the safetensors format, or is not as long as its header
            says.
    """
    with path.open("rb") as stream:
        prefix = stream.read(8)
        if prefix == b"version ":
            raise InputError("is a Git LFS pointer, not weights (git lfs pull)", file=path)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 0 < length <= _MAX_HEADER_BYTES:
            raise InputError("not a safetensors file", file=path)
        raw = stream.read(length)
        size = os.fstat(stream.fileno()).st_size
    try:
        header = json.loads(raw)
        header.pop("__metadata__", None)
        tensors = tuple(
            TensorEntry(name=name, shape=tuple(header[name]["shape"]), dtype=header[name]["dtype"])
            for name in sorted(header)
        )
        ends = max((each["data_offsets"][1] for each in header.values()), default=0)
        expected = len(prefix) + length + ends
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError("the safetensors header cannot be read", file=path) from error
    if size != expected:
        problem = f"is not whole: has {size:,} bytes, by its header {expected:,}"
        raise InputError(problem, file=path)
    return tensors
