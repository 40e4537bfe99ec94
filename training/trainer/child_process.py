"""A child process that imports TRL: how it is started, what it finds, how it ends."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from engine.errors import TrainingError
from engine.process.gpu_memory import visible_gpus
from engine.process.settings import KEEP_MEMORY

PARENT_VARIABLE = "JOSTLE_TRAINER_PARENT"
"""Environment variable: the process whose end ends the trainer, where no launcher is between."""

OWNER_VARIABLE = "JOSTLE_TRAINER_OWNER"
"""Environment variable: `HOST PID` of the process that started the training through a launcher."""

_STOP_SECONDS = 10.0


def start_child(
    job: str,
    model: str,
    launcher: Sequence[str],
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own.

    Args:
        job: What `training.trainer.sft` is given.
        model: Folder or hub id; nothing is asked of the hub for a folder.
        launcher: Words in front of the command.

    Raises:
        TrainingError: If there is no such program.
    """
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


def stop_child(child: subprocess.Popen[bytes]) -> None:
    """End the child if it still runs (the parent is going down), and all that it started."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=_STOP_SECONDS)
    # The group, also of a child that is gone: a launcher's processes survive one that is killed.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def last_spoken(text: str) -> str:
    """The last line that says anything."""
    spoken = [line.strip() for line in text.split("\n") if line.strip()]
    return spoken[-1] if spoken else "it printed nothing"
