"""The parent's side of the trainer: the job it is given, the child process, what it reports.

The child (`training.trainer.sft`) is the only process that imports TRL. Parent and child share
files in the round's `training/` folder and nothing else, so any launcher can stand between them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Annotated, Literal

from pydantic import Field

from engine.errors import InputError, TrainingError
from engine.files import write_json
from engine.process.gpu_memory import visible_gpus
from engine.process.settings import KEEP_MEMORY
from engine.protocol.completions import TokenPair
from engine.tasks import Record
from engine.weights.manifest import Probe
from training.config.run_config import TrainConfig
from training.tables.record_files import read_json

PARENT_VARIABLE = "JOSTLE_TRAINER_PARENT"
"""Environment variable: the process whose end ends the trainer, where no launcher is between."""

OWNER_VARIABLE = "JOSTLE_TRAINER_OWNER"
"""Environment variable: `HOST PID` of the process that started the training through a launcher."""

CHECK = "--check"
"""In place of a job: a `TrainConfig` comes on stdin, and nothing is trained."""

_POLL_SECONDS = 0.2
_FULL_BYTES = 16_384  # free, under which a disk counts as full
_STOP_SECONDS = 10.0


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


def check_trainer(config: TrainConfig) -> None:
    """That a training can start: it is started when much has been computed already.

    Where `arguments` or `report_to` are given, the trainer itself is asked about them, which takes
    seconds; with a launcher about names alone.

    Raises:
        InputError: If the launcher's program is not there, TRL refuses an argument, or what is to
            be reported to is unknown or not installed.
    """
    if config.launcher and shutil.which(config.launcher[0]) is None:
        problem = f"no such program: {config.launcher[0]!r}"
        raise InputError(problem, field="train.launcher")
    if config.arguments or config.report_to:
        child = _start(CHECK, "", (), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            told, _ = child.communicate(config.model_dump_json().encode())
        finally:
            _stop(child)
        if child.returncode != 0:
            raise InputError(_last_spoken(told.decode(errors="replace")))


class WaitingTrainer:
    """A child that imports what it needs, for a quarter of a minute, and then waits for its job.

    Args:
        model: Folder or hub id that the job will start from; it must not need a launcher.
    """

    def __init__(self, model: str) -> None:
        self._child = _start("-", model, (), stdin=subprocess.PIPE)

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
        _stop(self._child)


def _start(
    job: str,
    model: str,
    launcher: Sequence[str],
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    command = [*launcher, sys.executable, "-P", "-m", "training.trainer.sft", job]
    try:
        # A session of its own: stopping it stops what a launcher started too.
        return subprocess.Popen(
            command,
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            env=_environment(model, launcher),
            start_new_session=True,
        )
    except OSError as error:
        raise TrainingError(f"cannot start {command[0]!r}: {error.strerror}") from error


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
        child = child or _start(str(job_file), job.model, job.config.launcher, stdout=log)
        try:
            code = _watch(child, job.progress, on_progress)
        finally:
            _stop(child)
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


def _environment(model: str, launcher: Sequence[str]) -> dict[str, str]:
    environment = KEEP_MEMORY | os.environ
    environment.setdefault("TOKENIZERS_PARALLELISM", "false")
    environment.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # By default waiting threads spin. Beside any other busy process they then wait for a core that
    # they themselves keep busy: four times slower on two cores.
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if launcher:
        environment[OWNER_VARIABLE] = f"{socket.gethostname()} {os.getpid()}"
    else:
        environment[PARENT_VARIABLE] = str(os.getpid())
        # One process trains on one GPU: of several, transformers would make one nn.DataParallel.
        # The last, as the engine is on the first.
        n_seen = max(1, len(visible_gpus()))
        every = ",".join(map(str, range(n_seen)))
        names = environment.get("CUDA_VISIBLE_DEVICES", every).split(",")
        environment["CUDA_VISIBLE_DEVICES"] = names[:n_seen][-1]
    if Path(model).is_dir():
        # A folder has all that is needed; asking the hub about it would only cost time-outs.
        environment.setdefault("HF_HUB_OFFLINE", "1")
    # `-P` keeps the user's folder off the child's module path: a `datasets.py` there would hide the
    # library. A checkout that is not installed then has to be named.
    spec = importlib.util.find_spec("training")
    assert spec is not None
    assert spec.submodule_search_locations
    home = Path(next(iter(spec.submodule_search_locations))).parent
    if str(home) not in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        known = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = f"{home}{os.pathsep}{known}" if known else str(home)
    return environment


def _stop(child: subprocess.Popen[bytes]) -> None:
    """End the child if it still runs (the parent is going down), and all that it started."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=_STOP_SECONDS)
    # The group, also of a child that is gone: a launcher's processes survive one that is killed.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _death(code: int) -> str:
    if code >= 0:
        return f"the trainer exited with code {code}"
    name = signal.Signals(-code).name
    hint = ", perhaps for want of memory" if -code == signal.SIGKILL else ""
    return f"the trainer was ended by {name}{hint}"


def _last_line(log_file: Path) -> str:
    said = _last_spoken(log_file.read_text(encoding="utf-8", errors="replace"))
    # On a full disk the log may lack what killed it.
    full = shutil.disk_usage(log_file.parent).free < _FULL_BYTES
    return f"{said}; no space left on the disk" if full else said


def _last_spoken(text: str) -> str:
    spoken = [line.strip() for line in text.split("\n") if line.strip()]
    return spoken[-1] if spoken else "it printed nothing"
