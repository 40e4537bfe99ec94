"""What an interrupted training left, and whether the next attempt may go on from it.

Every attempt has a folder of its own below the round's `training/`, so that a trainer that outlived
its parent cannot write into the next one's. transformers writes `checkpoint-STEP` folders into it;
one counts when our marker, which is written last, is inside.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from engine.errors import InputError, TrainingError
from engine.files import read_json, write_bytes, write_json
from engine.tasks import Record
from engine.weights.identity import weights_identity
from engine.weights.manifest import file_digest
from engine.weights.models import local_folder
from training.config.train_config import WITHOUT_EFFECT
from training.trainer.trainer_process import TrainJob, TrainResult

MARKER = "jostle.json"
TRAINER_STATE = "trainer_state.json"
ATTEMPTS, OUTPUTS = "attempt-*", "output-*"


class CheckpointMarker(Record):
    """Content of the marker file.

    Attributes:
        fingerprint: Of the training, see `fingerprint`.
        step: Optimiser steps done.
        seconds: Time of these steps.
        processes: How many trained; None: not known.
    """

    fingerprint: str
    step: int
    seconds: float
    processes: int | None = None


def fingerprint(job: TrainJob) -> str:
    """sha256 of all that decides the outcome of a training: start, rows, config.

    In how many pieces a step is computed does not.
    """
    digest = hashlib.sha256()
    config = job.config.model_dump_json(exclude={*WITHOUT_EFFECT, "checkpoint_steps"})
    step = str(job.config.rows_per_step)
    for part in (job.start or job.model, str(job.trust_remote_code), config, step):
        digest.update(part.encode() + b"\n")
    for rows in (job.rows, job.validation_rows):
        digest.update((file_digest(rows) if rows else "none").encode() + b"\n")
    return digest.hexdigest()


def start_of(model: str) -> str:
    """What a training starts from, told by content: weights of a folder, a commit of the hub.

    The hub is not asked: it is the commit of the copy that is here, whole or not.

    Args:
        model: Folder or hub id.

    Raises:
        InputError: If a file cannot be read.
    """
    folder = local_folder(model)
    weights = weights_identity(folder) if Path(model).is_dir() else None
    return weights or folder.name


def check_start(job: TrainJob) -> None:
    """That the model which has been loaded is the one that the job was written for.

    Raises:
        TrainingError: If it has been replaced meanwhile.
    """
    if job.start is not None and start_of(job.model) != job.start:
        raise TrainingError(f"{job.model} was changed just before the training; start it again")


def left_result(work: Path) -> TrainResult | None:
    """The result of the training that ended well, if what it wrote has not been published.

    Args:
        work: The round's `training/` folder.
    """
    try:
        result = read_json(work / "result.json", TrainResult)
    except InputError:
        return None
    here = work / result.output.name
    # A copy of a run's folder names the outputs of the first, and may hold half of one.
    copied = result.output.exists() and result.output.resolve() != here.resolve()
    return result.model_copy(update={"output": here}) if here.is_dir() and not copied else None


def read_result(work: Path) -> TrainResult:
    """The result of a round's training, its output where the folder is now.

    Args:
        work: The round's `training/` folder, which may have been moved or copied.

    Raises:
        InputError: If there is none, or it is broken.
    """
    result = read_json(work / "result.json", TrainResult)
    return result.model_copy(update={"output": work / result.output.name})


def remove_outputs(work: Path, keep: Path | None = None) -> None:
    """Remove what trainings have written, but for one of them.

    Each is renamed first, so that nobody takes half of one for a whole one, a trainer that outlived
    its parent included.
    """
    for going in work.glob(f".{OUTPUTS}"):  # of a removal that was cut off
        shutil.rmtree(going)
    for output in work.glob(OUTPUTS):
        if keep is None or output.name != keep.name:
            shutil.rmtree(output.rename(output.with_name(f".{output.name}")))


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

    One counts only beside the best one that it names, which it names by where that is now.

    Args:
        work: The round's `training/` folder.
        of: Fingerprint of the training.
    """
    best: tuple[int, Path] | None = None
    for checkpoint in sorted(work.glob(f"{ATTEMPTS}/checkpoint-*")):
        marker = read_marker(checkpoint)
        if marker is None or marker.fingerprint != of:
            continue
        if (best is None or marker.step > best[0]) and _knows_best(checkpoint):
            best = (marker.step, checkpoint)
    return best[1] if best else None


def _trainer_state(checkpoint: Path) -> dict[str, Any]:
    file = checkpoint / TRAINER_STATE
    return dict(json.loads(file.read_bytes())) if file.is_file() else {}


def _knows_best(checkpoint: Path) -> bool:
    """Whether the best checkpoint that this one names, if any, is below the same folder.

    transformers names it by an absolute path, and forgets one that a moved run has left behind.
    """
    state = _trainer_state(checkpoint)
    named = state.get("best_model_checkpoint")
    if named is None:
        return True
    best = checkpoint.parents[1] / Path(named).parent.name / Path(named).name
    if str(best) != named and best.is_dir():
        moved = json.dumps(state | {"best_model_checkpoint": str(best)})
        write_bytes(checkpoint / TRAINER_STATE, moved.encode())
    return best.is_dir()


def with_best(checkpoint: Path) -> set[Path]:
    """A checkpoint that is gone on from, and the best one that it names, if any."""
    best = _trainer_state(checkpoint).get("best_model_checkpoint")
    return {checkpoint, Path(best)} if best else {checkpoint}


def remove_older(checkpoint: Path, best: str | None, earlier: Iterable[Path] = ()) -> None:
    """Remove an attempt's checkpoints but a whole one and the best one.

    Args:
        earlier: Checkpoints of earlier attempts, which are no longer needed either.
    """
    kept = {checkpoint, Path(best) if best else None}
    for older in {*checkpoint.parent.glob("checkpoint-*"), *earlier} - kept:
        if older.exists():
            shutil.rmtree(older)


def remove_attempts(work: Path, keep: Path | None = None) -> None:
    """Remove what all attempts left.

    Args:
        work: The round's `training/` folder.
        keep: The checkpoint that is gone on from, which stays with the best one that it names.
    """
    kept = with_best(keep) if keep else set()
    for attempt in work.glob(ATTEMPTS):
        if attempt not in {checkpoint.parent for checkpoint in kept}:
            shutil.rmtree(attempt)
            continue
        for checkpoint in set(attempt.glob("checkpoint-*")) - kept:
            shutil.rmtree(checkpoint)
