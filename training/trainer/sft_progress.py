"""What the trainer process tells while it trains. Imported by `training.trainer.sft` alone."""

from __future__ import annotations

import math
import os
import socket
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from engine.errors import TrainingError
from training.trainer.child_process import OWNER_VARIABLE
from training.trainer.resume import (
    CheckpointMarker,
    mark_checkpoint,
    read_marker,
    remove_older,
    with_best,
)
from training.trainer.trainer_process import TrainProgress


def check_owner() -> None:
    """End a training whose run is gone, where a launcher stands between them on one machine.

    Raises:
        TrainingError: If the process that started the training has ended.
    """
    host, _, pid = os.environ.get(OWNER_VARIABLE, "").partition(" ")
    if pid and host == socket.gethostname():
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError as error:
            raise TrainingError(f"the run of process {pid} is gone") from error
        except PermissionError:  # it lives, under another user
            return


class ProgressWriter(TrainerCallback):
    """Appends progress lines, times the steps, and declares checkpoints whole.

    Args:
        active: Whether this process is the one that reports.
    """

    def __init__(self, path: Path, fingerprint: str, active: bool = True) -> None:
        self.path = path
        self.fingerprint = fingerprint
        self.active = active
        self.seconds = 0.0
        self._n_timed = 0
        self._started = 0.0
        self._earlier: set[Path] = set()

    def write(self, progress: TrainProgress) -> None:
        if self.active:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(progress.model_dump_json() + "\n")

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._started = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.seconds += time.perf_counter() - self._started
        self._n_timed += 1
        check_owner()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Report the step; the last log of a training is a summary without a loss of its own."""
        if not logs or "loss" not in logs:
            return
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            raise TrainingError(f"the loss of step {state.global_step} is {loss}")
        self.write(
            TrainProgress(
                phase="training",
                step=state.global_step,
                total=state.max_steps,
                loss=loss,
                seconds_per_step=self.seconds / max(1, self._n_timed),
            )
        )

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Mark the checkpoint that has just been written. Older ones go only then: transformers
        itself removes them before, so that a kill in between leaves none that is whole. One at the
        end of a training that ends within an epoch is none to go on from: transformers 5.19 would
        train another step.
        """
        if torch.distributed.is_initialized():
            torch.distributed.barrier()  # the other processes write parts of it
        ends_within = state.global_step >= state.max_steps and state.epoch % 1 > 0
        if self.active and not ends_within:
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            marker = CheckpointMarker(
                fingerprint=self.fingerprint,
                step=state.global_step,
                seconds=self.seconds,
                processes=args.world_size,
            )
            mark_checkpoint(checkpoint, marker)
            remove_older(checkpoint, state.best_model_checkpoint, self._earlier)

    def go_on_from(self, checkpoint: Path, processes: int) -> None:
        """Count the time of the steps that an earlier attempt has done, and let its checkpoints go
        once there is one of this.

        Raises:
            TrainingError: If it had another number of processes, whose steps held other rows.
        """
        marker = read_marker(checkpoint)
        assert marker is not None, "only whole checkpoints are gone on from"
        if marker.processes not in (None, processes):
            raise TrainingError(
                f"{checkpoint} is of a training by {marker.processes} processes, this one has "
                f"{processes}; go on with {marker.processes}, or remove {checkpoint.parent}"
            )
        self._earlier = with_best(checkpoint)
        self.seconds = marker.seconds
        self._n_timed = marker.step
