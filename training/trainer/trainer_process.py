"""The parent's side of the trainer: the job it is given, the child process, what it reports.

The child (`training.trainer.sft`) is the only process that imports TRL. Parent and child share
files in the round's `training/` folder and nothing else, so any launcher can stand between them.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from engine.errors import InputError, TrainingError
from engine.files import read_json, write_json
from engine.protocol.completions import TokenPair
from engine.tasks import Record
from engine.weights.manifest import Probe
from training.config.run_config import TrainConfig
from training.trainer.child_process import last_spoken, start_child, stop_child

_LAUNCHERS_END = re.compile(
    # torchrun's and accelerate's words about a trainer that failed, behind its own.
    r"^[^\n]*torch[./]distributed[./]elastic[^\n]*(?:failed|Sending process|ChildFailedError)"
    r"|^Traceback[^\n]*\n(?=(?:(?!Traceback)[^\n]*\n)*"
    r"subprocess\.CalledProcessError: Command [^\n]*training\.trainer\.sft)",
    re.MULTILINE,
)
_POLL_SECONDS = 0.2
_FULL_BYTES = 16_384  # free, under which a disk counts as full


class TrainJob(Record):
    """What the child is told, as `job.json`.

    Attributes:
        model: Folder or hub id to start from.
        start: What it held when the job was written, see `training.trainer.resume.start_of`.
        trust_remote_code: Whether code that comes with the model may run.
        config: How to train.
        rows: Parquet file with the columns of `training.trainer.training_rows.ROW_COLUMNS`.
        validation_rows: The same of the validation tasks; none when there are none.
        attempt: Folder of this attempt, for what an interrupted training leaves.
        resume_from: A whole checkpoint of an earlier attempt at the same training.
        probes: Pairs to compute log-probabilities of, with the finished model.
        output: Folder for the checkpoint; must not exist.
        progress: File that progress lines are appended to.
        result: File of the `TrainResult`, written last.
    """

    model: str
    start: str | None = None
    trust_remote_code: bool = False
    config: TrainConfig
    rows: Path
    validation_rows: Path | None = None
    attempt: Path
    resume_from: Path | None = None
    probes: Annotated[tuple[TokenPair, ...], Field(min_length=1)]
    output: Path
    progress: Path
    result: Path


class TrainProgress(Record):
    """One line of the progress file.

    Attributes:
        phase: What the child is doing.
        step: Optimiser steps done.
        total: Optimiser steps in all; 0 until it is known.
        loss: Mean loss per completion token of the last step.
        seconds_per_step: Mean over the steps so far, start-up excluded.
    """

    phase: Literal["loading", "training", "saving"]
    step: int = 0
    total: int = 0
    loss: float | None = None
    seconds_per_step: float | None = None

    @property
    def detail(self) -> str:
        """What a bar of the steps tells beside them."""
        detail = self.phase if self.loss is None else f"loss {self.loss:.3f}"
        if self.seconds_per_step is not None:
            detail += f", {self.seconds_per_step:.1f} s per step"
        return detail


class TrainResult(Record):
    """What the child leaves behind.

    Attributes:
        output: Folder of the unpublished checkpoint.
        base_model: What the training started from.
        dtype: Data type of the written weights and of the probes.
        rows: Training rows.
        steps: Optimiser steps.
        seconds: Time of all steps together.
        seconds_per_step: The mean.
        losses: Loss of every step.
        validation_losses: Optimiser step and loss on the validation tasks, if there are any: the
            mean over their rows of a row's mean loss per completion token.
        best_step: The step whose weights were kept, where validation chose them.
        probes: The job's pairs with their log-probabilities.
        fingerprint: Of the training, see `training.trainer.resume.fingerprint`.
    """

    output: Path
    base_model: str
    dtype: Literal["float32", "bfloat16"]
    rows: int
    steps: int
    seconds: float
    seconds_per_step: float
    losses: tuple[float, ...]
    validation_losses: tuple[tuple[int, float], ...] = ()
    best_step: int | None = None
    probes: tuple[Probe, ...]
    fingerprint: str | None = None

    @property
    def summary(self) -> str:
        """A line for a person."""
        summary = f"{self.rows} rows, loss {self.losses[-1]:.3f}"
        if self.best_step is not None:
            summary += f", best weights after step {self.best_step} of {self.steps}"
        return summary


class WaitingTrainer:
    """A child that imports what it needs, for a quarter of a minute, and then waits for its job.

    Args:
        model: Folder or hub id that the job will start from; it must not need a launcher.
    """

    def __init__(self, model: str) -> None:
        self._child = start_child("-", model, (), stdin=subprocess.PIPE)

    def take(self, job_file: Path, log_file: Path) -> subprocess.Popen[bytes] | None:
        """Give it the job; the child, or none if it has ended."""
        told = json.dumps([str(job_file.resolve()), str(log_file.resolve())])
        assert self._child.stdin is not None
        try:
            with self._child.stdin as stream:
                stream.write(told.encode())
        except OSError:  # it has ended, and nobody reads
            self.stop()
            return None
        return self._child

    def stop(self) -> None:
        """End it; safe to call again."""
        stop_child(self._child)


def run_trainer(
    job: TrainJob,
    *,
    job_file: Path,
    log_file: Path,
    on_progress: Callable[[TrainProgress], None],
    waiting: WaitingTrainer | None = None,
) -> TrainResult:
    """Run the trainer in a child process and wait for it.

    Args:
        job: What to do. Its `config.launcher` is put in front of the child's command.
        job_file: Where the job is written to.
        log_file: Takes all that the child prints.
        on_progress: Called with each progress line as it appears.
        waiting: A child that has been started already; another is where it has ended.

    Raises:
        TrainingError: If the child cannot be started, fails, or leaves no result. The message ends
            with the last line of its log.
    """
    write_json(job_file, job.model_dump(mode="json"))
    job.result.unlink(missing_ok=True)
    job.progress.unlink(missing_ok=True)
    child = waiting.take(job_file, log_file) if waiting else None
    with log_file.open("ab" if child else "wb") as log:
        child = child or start_child(str(job_file), job.model, job.config.launcher, stdout=log)
        try:
            code = _watch(child, job.progress, on_progress)
        finally:
            stop_child(child)
    if code != 0:
        raise TrainingError(f"{_death(code)}: {_last_line(log_file)} (log: {log_file})")
    try:
        result = read_json(job.result, TrainResult)
    except InputError as error:
        raise TrainingError(f"the trainer left no result: {error} (log: {log_file})") from error
    return result


def _watch(
    child: subprocess.Popen[bytes], progress: Path, on_progress: Callable[[TrainProgress], None]
) -> int:
    """Pass progress lines on until the child ends; its exit code."""
    offset = 0
    while True:
        try:
            code = child.wait(timeout=_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        offset = _pass_on(progress, offset, on_progress)
        if code is not None:
            return code


def _pass_on(path: Path, offset: int, on_progress: Callable[[TrainProgress], None]) -> int:
    """Report the whole lines after `offset`; where the next ones begin."""
    if not path.is_file():
        return offset
    with path.open("rb") as stream:
        stream.seek(offset)
        new = stream.read()
    whole = new[: new.rfind(b"\n") + 1]
    for line in whole.splitlines():
        on_progress(TrainProgress.model_validate_json(line))
    return offset + len(whole)


def _death(code: int) -> str:
    if code >= 0:
        return f"the trainer exited with code {code}"
    name = signal.Signals(-code).name
    hint = ", perhaps for want of memory" if -code == signal.SIGKILL else ""
    return f"the trainer was ended by {name}{hint}"


def _last_line(log_file: Path) -> str:
    text = log_file.read_text(encoding="utf-8", errors="replace")
    own = _LAUNCHERS_END.split(text, maxsplit=1)[0]
    said = last_spoken(own if own.strip() else text)
    if "SIGKILL" in text[len(own) :]:
        said += "; a process was ended by SIGKILL, perhaps for want of memory"
    # On a full disk the log may lack what killed it.
    full = shutil.disk_usage(log_file.parent).free < _FULL_BYTES
    return f"{said}; no space left on the disk" if full else said
