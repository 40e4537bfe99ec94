"""Whether a published adapter may be merged into base weights, found out from files alone."""

from __future__ import annotations

import functools
import re
from pathlib import Path

from engine.errors import InputError
from engine.weights.adapter import (
    ADAPTER_WEIGHTS,
    AdapterConfig,
    LowRank,
    read_adapter,
    read_config,
)
from engine.weights.checkpoint_check import (
    FLOATS,
    check_finite,
    check_nothing_runs,
    is_tied,
    read_tensors,
    read_weights,
    weight_files,
)
from engine.weights.manifest import (
    MANIFEST_NAME,
    Manifest,
    TensorEntry,
    check_files,
    file_digest,
    read_manifest,
    weights_digest,
)

_HEAD, _EMBEDDINGS = "lm_head", "embed_tokens"
_EXPERT = re.compile(r"\.experts\.\d+\.")


def base_digest(folder: Path) -> str:
    """One digest of a model's weight files, by which an adapter names its base; not of the same
    weights in another format beside them.

    The files are read once; as long as none of them changes, the answer is remembered. Those of a
    published checkpoint are not read, its manifest holds their digests.

    Raises:
        InputError: As `weight_files`, or if the manifest cannot be read.
    """
    if (folder / MANIFEST_NAME).is_file():
        manifest = read_manifest(folder)
        return weights_digest({entry.name: entry.sha256 for entry in manifest.weight_files})
    files = []
    for path in weight_files(folder):
        stat = path.stat()
        files.append((path, stat.st_size, stat.st_mtime_ns, stat.st_ino))
    return _digest(tuple(files))


@functools.lru_cache(maxsize=8)
def _digest(files: tuple[tuple[Path, int, int, int], ...]) -> str:
    return weights_digest({path.name: file_digest(path) for path, *_ in files})


def check_adapter(folder: Path, manifest: Manifest, base: Path) -> None:
    """Compares an adapter with its manifest and with the model it shall be merged into.

    Args:
        base: Folder of the base model, whose digest is the one that the manifest names.

    Raises:
        InputError: If a file is missing or differs, is a link, or could run code; the adapter is of
            a kind that cannot be merged; a tensor is missing, extra, or of a shape or kind of
            number that does not fit its weight; or a value is not finite.
    """
    check_nothing_runs(folder, base)
    check_files(folder, manifest)
    for file in sorted(folder.glob("*.safetensors")):
        if file.name != ADAPTER_WEIGHTS:
            raise InputError("is no part of an adapter", file=file)
    tensors = read_tensors(folder)
    if tensors != {entry.name: entry for entry in manifest.tensors}:
        raise InputError("the manifest's tensors are not those of the files", file=folder)
    config, changes = read_config(folder), read_adapter(folder)
    weights = read_weights(base)
    for name, change in sorted(changes.items()):
        if name not in weights:
            raise InputError("the base model has no such tensor", file=folder, record=name)
        _compare(folder, tensors, change, weights[name], config.rank(change.module))
        _check_untied(folder, change, base)
    _check_whole(folder, config, changes, weights)
    check_finite(folder)


def _compare(
    folder: Path, tensors: dict[str, TensorEntry], change: LowRank, weight: TensorEntry, rank: int
) -> None:
    """A is (rank, inputs) and B (outputs, rank) of a weight (outputs, inputs), all of floats."""
    if len(weight.shape) != 2 or weight.dtype not in FLOATS:
        raise InputError(
            f"is {weight.dtype} of shape {list(weight.shape)} in the base model, no plain matrix",
            file=folder,
            record=weight.name,
        )
    outputs, inputs = weight.shape
    for name, shape in ((change.a, (rank, inputs)), (change.b, (outputs, rank))):
        if tensors[name].shape != shape:
            raise InputError(
                f"has shape {list(tensors[name].shape)}, rank and base model want {list(shape)}",
                file=folder,
                record=name,
                field="shape",
            )
        if tensors[name].dtype not in FLOATS:
            raise InputError(
                f"holds {tensors[name].dtype}, no floats", file=folder, record=name, field="dtype"
            )


def _check_untied(folder: Path, change: LowRank, base: Path) -> None:
    """A tied output projection and its embeddings are one tensor, which a change to one splits."""
    if change.module.rpartition(".")[2] in (_HEAD, _EMBEDDINGS) and is_tied(base):
        raise InputError(
            "the base model's output projection is its embeddings; neither can be changed alone",
            file=folder,
            record=change.module,
        )


def _check_whole(
    folder: Path,
    config: AdapterConfig,
    changes: dict[str, LowRank],
    weights: dict[str, TensorEntry],
) -> None:
    """Every matrix that the config names by the end of its module's name has its pair."""
    extra = config.model_extra or {}
    names = extra.get("target_modules")
    chosen = any(extra.get(key) for key in ("exclude_modules", "layers_to_transform"))
    if not changes:
        raise InputError("changes nothing", file=folder / ADAPTER_WEIGHTS)
    if chosen or not isinstance(names, list):
        return
    ends = tuple(f".{name}.weight" for name in names)
    # Experts that each have a file's matrix may be one parameter in memory, which gets no pair.
    whole = not any(_EXPERT.search(name) for name in changes)
    for name, weight in sorted(weights.items()):
        if name in changes or (whole and _EXPERT.search(name)):
            continue
        if len(weight.shape) == 2 and f".{name}".endswith(ends):
            raise InputError(
                "the config names it, but there is no pair for it", file=folder, record=name
            )
