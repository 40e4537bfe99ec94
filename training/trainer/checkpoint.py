"""Publishing: an output folder of the trainer becomes a checkpoint with a manifest."""

from __future__ import annotations

from pathlib import Path

from engine.errors import TrainingError
from engine.files import sync_folder
from engine.weights.manifest import Manifest, read_manifest
from engine.weights.publishing import describe, seal
from training.trainer.trainer_process import TrainResult


def publish(result: TrainResult, checkpoint: Path, round_index: int) -> Manifest:
    """Turn the trainer's output folder into a published checkpoint.

    All files are synced, the manifest is written last, and the folder is renamed into place, so a
    checkpoint folder is whole or absent. Publishing again after an interruption finishes the work.

    Args:
        checkpoint: Where the checkpoint shall stand, on the same file system.
        round_index: The round; the version begins with `round-RR-`.

    Raises:
        TrainingError: If the output folder is gone, or something else stands at `checkpoint`.
        InputError: If the output folder cannot be described, see `describe`.
    """
    if checkpoint.exists():
        manifest = read_manifest(checkpoint)
        if manifest.probes != result.probes or result.output.exists():
            raise TrainingError(f"another checkpoint stands at {checkpoint}; move it away")
        return manifest
    if not result.output.is_dir():
        raise TrainingError(f"the trainer's output folder {result.output} is gone")
    manifest = describe(
        result.output,
        f"round-{round_index:02d}",
        base_model=result.base_model,
        dtype=result.dtype,
        probes=result.probes,
    )
    seal(result.output, manifest)
    result.output.rename(checkpoint)
    sync_folder(checkpoint.parent)
    return manifest
