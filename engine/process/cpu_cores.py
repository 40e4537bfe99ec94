"""Which cores each of several engine processes on one CPU computes with."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path


def bound_cores(ranks: int, cpus: Path = Path("/sys/devices/system/cpu")) -> str:
    """The cores of each rank, as `VLLM_CPU_OMP_THREADS_BIND` wants them: `0,1|2,3`.

    One thread of each physical core, those of a memory node next to each other. Fewer cores than
    ranks are shared.
    """
    physical: dict[tuple[int, ...], int] = {}
    for core in sorted(os.sched_getaffinity(0)):
        physical[_place(cpus / f"cpu{core}", core)] = core
    cores = [core for _, core in sorted(physical.items())]
    if len(cores) < ranks:
        return "|".join(str(cores[rank % len(cores)]) for rank in range(ranks))
    first = [rank * len(cores) // ranks for rank in range(ranks + 1)]
    return "|".join(",".join(map(str, cores[start:end])) for start, end in pairwise(first))


def _place(cpu: Path, core: int) -> tuple[int, ...]:
    """Memory node, socket and physical core; of what is not known the core alone."""
    node = next((int(entry.name[4:]) for entry in cpu.glob("node[0-9]*")), 0)
    try:
        topology = [
            int((cpu / "topology" / name).read_text())
            for name in ("physical_package_id", "core_id")
        ]
    except (OSError, ValueError):
        topology = [0, core]
    return (node, *topology)
