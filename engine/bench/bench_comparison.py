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
    pairs = {
        "machine": (str(first.machine), str(second.machine)),
        "model": (first.weights.served.model, second.weights.served.model),
        "data type": (first.weights.served.dtype, second.weights.served.dtype),
        "context": (first.weights.served.max_model_len, second.weights.served.max_model_len),
        "flags": (" ".join(first.flags), " ".join(second.flags)),
    }
    names = sorted({*first.machine.packages, *second.machine.packages})
    for name in names:
        pairs[name] = tuple(  # type: ignore[assignment]
            each.machine.packages.get(name, "none") for each in (first, second)
        )
    return [f"{name}: {old} -> {new}" for name, (old, new) in pairs.items() if old != new]
