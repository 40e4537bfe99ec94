"""The GPUs of this machine, as their driver tells; importing torch to ask would take seconds."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

GIB = 2**30

_QUERY = "uuid,memory.total,memory.used,compute_cap,name"


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
        capability: Its compute capability; None where the driver does not tell.
    """

    name: str
    total: int | None
    used: int | None
    uuid: str = ""
    capability: float | None = None


def installed_gpus() -> tuple[Gpu, ...]:
    """All of this machine; none without a driver.

    Raises:
        DriverError: If the driver is there and fails.
    """
    try:
        answer = _ask(_QUERY)
        if answer.returncode != 0:  # a driver that knows no compute_cap, perhaps
            answer = _ask(_QUERY.replace("compute_cap", "uuid"))
    except FileNotFoundError:
        return ()
    except (OSError, subprocess.SubprocessError) as error:
        raise DriverError(f"nvidia-smi fails: {error}") from error
    if answer.returncode != 0:
        raise DriverError(f"nvidia-smi fails: {(answer.stdout or answer.stderr).strip()}")
    lines = [line for line in answer.stdout.splitlines() if line.count(",") >= 4]
    return tuple(_parse(line) for line in lines)


def _ask(fields: str) -> subprocess.CompletedProcess[str]:
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


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
    uuid, total, used, capability, name = (part.strip() for part in line.split(",", 4))
    return Gpu(name, _bytes(total), _bytes(used), uuid, _number(capability))


def _bytes(mebibytes: str) -> int | None:
    number = _number(mebibytes)
    return None if number is None else int(number) * 2**20


def _number(told: str) -> float | None:
    """Of "[N/A]" and the like None."""
    try:
        return float(told)
    except ValueError:
        return None
