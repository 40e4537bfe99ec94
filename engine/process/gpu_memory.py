"""The GPUs of this machine, as their driver tells; importing torch to ask would take seconds."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

GIB = 2**30

_QUERY = "uuid,memory.total,memory.used,name"


class DriverError(RuntimeError):
    """The driver is there, and fails."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One of them.

    Attributes:
        name: What the driver calls it.
        total: Its memory, in bytes; None where it has none of its own.
        used: What processes hold of it now, in bytes.
        uuid: Its name in the world, as `CUDA_VISIBLE_DEVICES` may give it.
    """

    name: str
    total: int | None
    used: int | None
    uuid: str = ""


def installed_gpus() -> tuple[Gpu, ...]:
    """All of this machine; none without a driver.

    Raises:
        DriverError: If the driver is there and fails.
    """
    command = ["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except FileNotFoundError:
        return ()
    except (OSError, subprocess.SubprocessError) as error:
        raise DriverError(f"nvidia-smi fails: {error}") from error
    if answer.returncode != 0:
        raise DriverError(f"nvidia-smi fails: {(answer.stdout or answer.stderr).strip()}")
    lines = [line for line in answer.stdout.splitlines() if line.count(",") >= 3]
    return tuple(_parse(line) for line in lines)


def visible_gpus() -> tuple[Gpu, ...]:
    """Those that processes started from here see; none without a driver that answers.

    `CUDA_VISIBLE_DEVICES` counts as CUDA reads it: numbers or UUIDs, up to the first that is none.
    Where it names parts of GPUs (MIG), all are taken to be visible.
    """
    try:
        found = installed_gpus()
    except DriverError:
        return ()
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None or "MIG" in chosen:
        return found
    return tuple(_chosen(found, chosen.split(",")))


def _chosen(found: Sequence[Gpu], names: Sequence[str]) -> Iterator[Gpu]:
    for name in map(str.strip, names):
        if name.isdigit() and int(name) < len(found):
            yield found[int(name)]
        elif same := [gpu for gpu in found if name and gpu.uuid.startswith(name)]:
            yield same[0]
        else:
            return


def _parse(line: str) -> Gpu:
    uuid, total, used, name = (part.strip() for part in line.split(",", 3))
    return Gpu(name, _bytes(total), _bytes(used), uuid)


def _bytes(mebibytes: str) -> int | None:
    """Of "[N/A]" and the like None."""
    try:
        return int(float(mebibytes)) * 2**20
    except ValueError:
        return None
