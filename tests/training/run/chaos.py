"""Kills at seeded random moments, each followed by a plain re-run of the same command."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]

ROLES = {"engine": "engine.server", "trainer": "job.json"}


def victims(pid: int) -> dict[str, int]:
    """The processes of a run that may be killed now, by role."""
    found = {"cli": pid}
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                command = " ".join(child.cmdline())
                for role in (role for role, words in ROLES.items() if words in command):
                    found.setdefault(role, child.pid)
    return found


def run_with_kills(
    command: Sequence[str],
    log: Path,
    *,
    kills: int,
    longest_s: float,
    trainer_s: float,
    seed: int,
    others: Callable[[], dict[str, int]] = dict,
    new_run: Callable[[], None],
    before: Callable[[], object] = lambda: None,
    environment: dict[str, str] | None = None,
) -> Counter[str]:
    """Run a command until it has succeeded after the last kill; how often each role was killed.

    Args:
        command: Starts the run, or goes on with it.
        log: Takes its output.
        kills: How many kills there shall be.
        longest_s: Latest moment of a kill, in seconds after the command or its engine started.
        trainer_s: The same after a trainer started.
        seed: Of moments and victims.
        others: Further processes that may be killed, by role.
        new_run: Called when a run succeeded before all kills were done.
        before: Called before each start.
        environment: Of the command.
    """
    rng = random.Random(seed)
    done: Counter[str] = Counter()
    while True:
        before()
        with log.open("ab") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=output, env=environment, start_new_session=True
            )
        # The trainer lives for a small part of a run, so its kills are timed from its start.
        role = rng.choice(["cli", "engine", "trainer"])
        delay = rng.uniform(0.0, trainer_s if role == "trainer" else longest_s)
        killed = done.total() < kills and _kill(process, role, delay, others)
        if killed:
            done[role] += 1
            before()  # an engine that is not the run's own is started again while the run waits
        process.wait()
        if killed:
            continue
        if process.returncode != 0:
            raise AssertionError(f"failed without a kill: {log.read_text()[-3000:]}")
        if done.total() >= kills:
            return done
        new_run()


def _kill(
    process: subprocess.Popen[bytes],
    role: str,
    delay: float,
    others: Callable[[], dict[str, int]],
) -> bool:
    """Kill a role some time after it is first seen; whether the run was still going on then."""
    due: float | None = None
    while process.poll() is None:
        alive = {"cli": process.pid} if role == "cli" else victims(process.pid) | others()
        if role in alive and due is None:
            due = time.monotonic() + delay
        if due is not None and time.monotonic() >= due:
            try:
                os.kill(alive[role], signal.SIGKILL)
            except (KeyError, ProcessLookupError):  # it has ended by itself
                due = None
                continue
            _wait_dead(alive[role])
            return True
        time.sleep(0.02)
    return False


def _wait_dead(pid: int) -> None:
    """Until a killed process has ended; whoever looks at it then sees that it has.

    Its first thread may be gone before the others are, and only then can its parent wait for it.
    """
    folder = Path(f"/proc/{pid}")
    while True:
        try:
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            if state == "Z" and len(list((folder / "task").iterdir())) <= 1:
                return
        except OSError:
            return
        time.sleep(0.01)
