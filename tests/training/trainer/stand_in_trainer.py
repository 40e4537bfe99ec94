"""A trainer that moves one vector, step by step, with checkpoints it can go on from.

Stands in the launcher's place: the last word of its command is the job file.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from engine.files import read_json, write_json
from engine.process.lifetime import die_with
from engine.weights.manifest import Probe, file_digest
from training.trainer.resume import CheckpointMarker, fingerprint, mark_checkpoint
from training.trainer.trainer_process import TrainJob, TrainProgress, TrainResult

STEPS = 12
SECONDS = 0.04


def main() -> None:
    die_with(os.getppid(), signal.SIGKILL)
    job = read_json(Path(sys.argv[-1]), TrainJob)
    rows = int(file_digest(job.rows)[:8], 16)
    weights, losses, first = np.zeros(1024, np.float32), list[float](), 0
    if job.resume_from is not None:
        state = load_file(job.resume_from / "state.safetensors")
        weights, losses = state["weights"], state["losses"].tolist()
        first = len(losses)
    for step in range(first + 1, STEPS + 1):
        weights = weights * np.float32(0.9) + np.float32((rows * step) % 1009)
        losses.append(float(np.float32(weights.mean())))
        time.sleep(SECONDS)
        progress = TrainProgress(phase="training", step=step, total=STEPS, loss=losses[-1])
        with job.progress.open("a") as stream:
            stream.write(progress.model_dump_json() + "\n")
        if job.config.checkpoint_steps and step % job.config.checkpoint_steps == 0:
            checkpoint = job.attempt / f"checkpoint-{step}"
            checkpoint.mkdir(parents=True)
            save_file(
                {"weights": weights, "losses": np.array(losses, np.float64)},
                checkpoint / "state.safetensors",
            )
            marker = CheckpointMarker(fingerprint=fingerprint(job), step=step, seconds=1.0)
            mark_checkpoint(checkpoint, marker)
    job.output.mkdir()
    save_file({"weights": weights}, job.output / "model.safetensors")
    probes = tuple(
        Probe(
            prompt_token_ids=pair.prompt_token_ids,
            completion_token_ids=pair.completion_token_ids,
            token_logprobs=tuple(-0.5 for _ in pair.completion_token_ids),
        )
        for pair in job.probes
    )
    result = TrainResult(
        output=job.output,
        base_model=job.model,
        dtype="float32",
        rows=1,
        steps=STEPS,
        seconds=1.0,
        seconds_per_step=0.1,
        losses=tuple(losses),
        probes=probes,
        fingerprint=fingerprint(job),
    )
    write_json(job.result, result.model_dump(mode="json"))


if __name__ == "__main__":
    main()
