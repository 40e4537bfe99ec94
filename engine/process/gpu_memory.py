"""The GPUs of this machine, as their driver tells; importing torch to ask would take seconds."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Gpu:
    """One of them.

    Attributes:
        name: What the driver calls it.
        total: Its memory, in bytes.
        used: What processes hold of it now, in bytes.
    """

    name: str
    total: int
    used: int


def visible_gpus() -> tuple[Gpu, ...]:
    """Those that processes started from here see; none without a driver.

    Where `CUDA_VISIBLE_DEVICES` names GPUs otherwise than by number, all are taken to be visible.
    """
    command = ["nvidia-smi", "--query-gpu=name,memory.total,memory.used"]
    try:
        answer = subprocess.run(
            [*command, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        found = [_parse(line) for line in answer.stdout.splitlines() if line.strip()]
    except (OSError, subprocess.SubprocessError, ValueError):
        return ()
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None or not all(part.strip().isdigit() for part in chosen.split(",") if part):
        return tuple(found)
    numbers = [int(part) for part in chosen.split(",") if part]
    return tuple(found[number] for number in numbers if number < len(found))


def _parse(line: str) -> Gpu:
    name, total, used = line.rsplit(",", 2)
    return Gpu(name.strip(), int(float(total)) * 2**20, int(float(used)) * 2**20)
