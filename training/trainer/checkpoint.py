"""Publishing: an output folder of the trainer becomes a checkpoint with a manifest."""

from __future__ import annotations

from pathlib import Path

from engine.errors import TrainingError
from engine.files import is_part, sync_file, sync_folder, write_json
from engine.weights.adapter import ADAPTER_CONFIG, read_config
from engine.weights.adapter_check import base_digest
from engine.weights.manifest import (
    MANIFEST_NAME,
    FileEntry,
    Manifest,
    TensorEntry,
    check_files,
    file_digest,
    read_manifest,
    read_safetensors_header,
    weights_digest,
)
from engine.weights.models import local_folder
from training.trainer.trainer_process import TrainResult

__all__ = ["Manifest", "build_manifest", "check_files", "publish", "read_manifest"]


def build_manifest(folder: Path, round_index: int, result: TrainResult) -> Manifest:
    """Describe an unpublished checkpoint folder.

    The version is `round-RR-` and the first 12 hex digits of the digest of all weight files, so it
    names one set of weights only. The digest of an adapter covers its config and its base as well.

    Raises:
        TrainingError: If the folder holds no safetensors file, or one tensor twice.
        InputError: If an adapter cannot be merged, or its base has no files here.
    """
    files = tuple(
        FileEntry(name=path.name, size=path.stat().st_size, sha256=file_digest(path))
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != MANIFEST_NAME and not is_part(path)
    )
    weights = [entry for entry in files if entry.name.endswith(".safetensors")]
    if not weights:
        raise TrainingError(f"{folder} holds no safetensors file")
    tensors: dict[str, TensorEntry] = {}
    for entry in weights:
        for tensor in read_safetensors_header(folder / entry.name):
            if tensor.name in tensors:
                raise TrainingError(f"{folder} holds tensor {tensor.name} twice")
            tensors[tensor.name] = tensor
    decisive = {entry.name: entry.sha256 for entry in weights}
    base = None
    if (folder / ADAPTER_CONFIG).is_file():
        base = base_digest(local_folder(result.base_model))
        decisive |= {ADAPTER_CONFIG: read_config(folder).digest, "base": base}
    digest = weights_digest(decisive)
    return Manifest(
        version=f"round-{round_index:02d}-{digest[:12]}",
        kind="full" if base is None else "lora",
        base_model=result.base_model,
        base_digest=base,
        dtype=result.dtype,
        files=files,
        tensors=tuple(tensors[name] for name in sorted(tensors)),
        probes=result.probes,
    )


def publish(result: TrainResult, checkpoint: Path, round_index: int) -> Manifest:
    """Turn the trainer's output folder into a published checkpoint.

    All files are synced, the manifest is written last, and the folder is renamed into place, so a
    checkpoint folder is whole or absent. Publishing again after an interruption finishes the work.

    Args:
        checkpoint: Where the checkpoint shall stand, on the same file system.
        round_index: The round; part of the version.

    Raises:
        TrainingError: If the output folder is gone, or something else stands at `checkpoint`.
    """
    if checkpoint.exists():
        manifest = read_manifest(checkpoint)
        if manifest.probes != result.probes or result.output.exists():
            raise TrainingError(f"another checkpoint stands at {checkpoint}; move it away")
        return manifest
    if not result.output.is_dir():
        raise TrainingError(f"the trainer's output folder {result.output} is gone")
    manifest = build_manifest(result.output, round_index, result)
    for entry in manifest.files:
        sync_file(result.output / entry.name)
    write_json(result.output / MANIFEST_NAME, manifest.model_dump(mode="json"))
    result.output.rename(checkpoint)
    sync_folder(checkpoint.parent)
    return manifest
