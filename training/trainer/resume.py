"""What an interrupted training left, and whether the next attempt may go on from it.

Every attempt has a folder of its own below the round's `training/`, so that a trainer that outlived
its parent cannot write into the next one's. transformers writes `checkpoint-STEP` folders into it;
one counts when our marker, which is written last, is inside.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import InputError
from engine.files import write_json
from engine.tasks import Record
from engine.weights.manifest import file_digest
from training.tables.record_files import read_json

if TYPE_CHECKING:
    from training.trainer.trainer_process import TrainJob

_WITHOUT_EFFECT = {
    "launcher",
    "checkpoint_steps",
    "report_to",
    "batch_size",
    "gradient_accumulation_steps",
    "gradient_checkpointing",
}

MARKER = "jostle.json"
ATTEMPTS = "attempt-*"


class CheckpointMarker(Record):
    """Content of the marker file.

    Attributes:
        fingerprint: Of the training, see `fingerprint`.
        step: Optimiser steps done.
        seconds: Time of these steps.
    """

    fingerprint: str
    step: int
    seconds: float


def fingerprint(job: TrainJob) -> str:
    """sha256 of all that decides the outcome of a training: start, rows, config.

    In how many pieces a step is computed does not.
    """
    digest = hashlib.sha256()
    step = job.config.batch_size * job.config.gradient_accumulation_steps
    config = job.config.model_dump_json(exclude=_WITHOUT_EFFECT)
    for part in (job.model, str(job.trust_remote_code), config, str(step)):
        digest.update(part.encode() + b"\n")
    for rows in (job.rows, job.validation_rows):
        digest.update((file_digest(rows) if rows else "none").encode() + b"\n")
    return digest.hexdigest()


def mark_checkpoint(checkpoint: Path, marker: CheckpointMarker) -> None:
    """Declare a checkpoint whole."""
    write_json(checkpoint / MARKER, marker.model_dump(mode="json"))


def read_marker(checkpoint: Path) -> CheckpointMarker | None:
    """The marker of a checkpoint; none if it is not whole."""
    try:
        return read_json(checkpoint / MARKER, CheckpointMarker)
    except InputError:
        return None


def newest_checkpoint(work: Path, of: str) -> Path | None:
    """The whole checkpoint of a training that has got furthest, over all attempts.

    Args:
        work: The round's `training/` folder.
        of: Fingerprint of the training.
    """
    best: tuple[int, Path] | None = None
    for checkpoint in sorted(work.glob(f"{ATTEMPTS}/checkpoint-*")):
        marker = read_marker(checkpoint)
        if marker is None or marker.fingerprint != of:
            continue
        if best is None or marker.step > best[0]:
            best = (marker.step, checkpoint)
    return best[1] if best else None


def remove_older(checkpoint: Path, best: str | None) -> None:
    """Remove an attempt's checkpoints but a whole one and the best one."""
    kept = {checkpoint, Path(best) if best else None}
    for older in set(checkpoint.parent.glob("checkpoint-*")) - kept:
        shutil.rmtree(older)


def remove_attempts(work: Path, keep: str | None = None) -> None:
    """Remove the folders of all attempts.

    Args:
        work: The round's `training/` folder.
        keep: Fingerprint of a training; attempts at it that left a whole checkpoint stay, because a
            later checkpoint may name an earlier one as the best.
    """
    for attempt in work.glob(ATTEMPTS):
        markers = [read_marker(checkpoint) for checkpoint in attempt.glob("checkpoint-*")]
        if keep is None or not any(marker and marker.fingerprint == keep for marker in markers):
            shutil.rmtree(attempt)
