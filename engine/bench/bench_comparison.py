"""Two measurements of one workload: by how much the second is faster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

from engine.bench.bench_result import BenchResult, values
from engine.bench.repeats import Ratio, ratio
from engine.bench.workload import Load
from engine.errors import InputError
from engine.tasks import Record

COMPARED = ("pairs/s", "samples/s", "p50", "p95", "p99")


class ComparedFigure(Record):
    """A figure of one way under one load in both.

    Attributes:
        way: The kind of requests.
        load: How hard the engine was pressed.
        name: A name of `engine.bench.bench_result.FIGURES`.
        first: Its mean in the first measurement.
        second: Its mean in the second one.
        ratio: The second over the first.
    """

    way: str
    load: Load
    name: str
    first: float
    second: float
    ratio: Ratio


def compare_benches(
    first: BenchResult, second: BenchResult, path: Path | None = None
) -> list[ComparedFigure]:
    """All figures that both have.

    Args:
        path: The file of the second, for messages.

    Raises:
        InputError: If the workloads differ, or they have no load in common.
    """
    different = first.workload.differences(second.workload)
    if first.timing.pairs != second.timing.pairs:
        different.append(f"pairs measured {first.timing.pairs} and {second.timing.pairs}")
    if different:
        raise InputError(f"is another workload: {'; '.join(different)}", file=path)
    found = [*_compared(first, second)]
    if not found:
        raise InputError("has no load or way in common with the other", file=path)
    return found


def _compared(first: BenchResult, second: BenchResult) -> Iterator[ComparedFigure]:
    for way, load, readings in first.rows():
        for name in COMPARED:
            old, new = values(readings, name), values(second.of(way, load), name)
            if old and new and (of_means := ratio(new, old)):
                yield ComparedFigure(
                    way=way,
                    load=load,
                    name=name,
                    first=fmean(old),
                    second=fmean(new),
                    ratio=of_means,
                )


def conditions(first: BenchResult, second: BenchResult) -> list[str]:
    """What else than the workload was another, in words."""
    old, new = _conditions(first, second), _conditions(second, first)
    names = sorted(old.keys() | new.keys())
    told = [(name, old.get(name, "none"), new.get(name, "none")) for name in names]
    return [
        f"{name}: {before} -> {after}" for name, before, after in told if str(before) != str(after)
    ]


def _conditions(one: BenchResult, other: BenchResult) -> dict[str, object]:
    """By name; of flags those alone that the other was not started with."""
    served = one.weights.served
    return {
        "machine": str(one.machine),
        "model": served.model,
        "data type": served.dtype,
        "context": served.max_model_len,
        "device": one.device,
        "flags": " ".join(flag for flag in one.flags if flag not in other.flags) or "none",
        **one.machine.packages,
    }
