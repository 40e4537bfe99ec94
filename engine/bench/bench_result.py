"""A finished measurement: the content of the file that `jostle bench` writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean
from typing import Literal

from engine.bench.figures import Figures
from engine.bench.machine_facts import Machine
from engine.bench.pool_times import PoolTimes
from engine.bench.repeats import Repeated, repeated
from engine.bench.workload import Load, Timing, Workload
from engine.errors import EngineError
from engine.files import read_json
from engine.protocol.weights_state import WeightsState
from engine.tasks import Record


class Reading(Record):
    """One kind of requests in one measurement.

    Attributes:
        way: The kind: `logprobs`, `stock`, `uncertainty`, `samples` or `reload`.
        load: How hard the engine was pressed.
        repeat: Which measurement of this load it is, from 0.
        seconds: Length of the window.
        figures: What was measured in it.
        client_cpu: Cores that this process kept busy. Near 1 it may be the limit, not the engine.
        steps: Share of the engine's time for requests by part, as its metrics tell: `queue`,
            `prefill`, `decode`; empty where they do not.
    """

    way: str
    load: Load
    repeat: int
    seconds: float
    figures: Figures
    client_cpu: float
    steps: dict[str, float]


class BenchResult(Record):
    """Everything that was measured, and with what.

    Attributes:
        format: Of this file.
        begun: When, in ISO 8601.
        workload: What was asked.
        timing: How long and how often.
        loads: How hard, in order.
        readings: What was measured.
        machine: Where the measuring process ran, and the engine if it started it.
        engine: `started`, or the URL of one that ran already.
        device: What it computes on, `cpu` or `cuda`; null where it was not started.
        flags: vLLM flags of the engine, if it was started.
        weights: What it serves.
        estimate: What the pool takes, if that was asked.
        agreement: Largest difference of a pair's probability between our route and vLLM's own,
            where both were asked.
    """

    format: Literal[1] = 1
    begun: str
    workload: Workload
    timing: Timing
    loads: tuple[Load, ...]
    readings: tuple[Reading, ...]
    machine: Machine
    engine: str
    device: str | None = None
    flags: tuple[str, ...]
    weights: WeightsState
    estimate: PoolTimes | None = None
    agreement: float | None = None

    def rows(self) -> Iterator[tuple[str, Load, list[Reading]]]:
        """The readings of each way under each load, in order."""
        ways = dict.fromkeys(each.way for each in self.readings)
        for load in self.loads:
            for way in ways:
                found = self.of(way, load)
                if found:
                    yield way, load, found

    def of(self, way: str, load: Load) -> list[Reading]:
        """The readings of one way under one load."""
        return [each for each in self.readings if (each.way, each.load) == (way, load)]

    def estimated(self, n_tasks: int, n_pairs: int, length: float) -> PoolTimes:
        """The times of the pool whose tasks were asked, at the rate of the load with the highest.

        Args:
            n_tasks: Tasks of the pool.
            n_pairs: Pairs of a scoring, original prompts included.
            length: Of its tasks, see `engine.bench.bench_calls.text_length`.

        Raises:
            EngineError: If no pair was scored.
        """
        loads = [found for way, _, found in self.rows() if way == self.workload.name]
        rates = [(repeated([each.figures.length for each in found]), found) for found in loads]
        rate, readings = max(rates, key=lambda each: each[0].mean)
        if not rate.mean:
            raise EngineError("no task was scored while it was measured; give it more --seconds")
        tokens = sum(fmean(values(readings, name)) for name in ("computed/s", "generated/s"))
        return PoolTimes.of(self.workload.tasks, n_tasks, n_pairs, length, rate, tokens)


Value = Callable[[Figures], float | None]

FIGURES: dict[str, Value] = {
    "requests/s": lambda one: one.requests_per_s,
    "pairs/s": lambda one: one.pairs,
    "samples/s": lambda one: one.samples,
    "submitted/s": lambda one: one.submitted,
    "computed/s": lambda one: one.computed,
    "reused/s": lambda one: one.reused,
    "generated/s": lambda one: one.generated,
    "mean": lambda one: getattr(one.latency, "mean", None),
    "p50": lambda one: getattr(one.latency, "p50", None),
    "p95": lambda one: getattr(one.latency, "p95", None),
    "p99": lambda one: getattr(one.latency, "p99", None),
    "first": lambda one: getattr(one.first_result, "p50", None),
}
"""Figures by the names that tables give them; times in seconds, the first result's the median."""


def values(readings: list[Reading], name: str) -> list[float]:
    """A figure in every measurement that has it."""
    found = (FIGURES[name](each.figures) for each in readings)
    return [value for value in found if value is not None]


def figure(readings: list[Reading], name: str) -> Repeated | None:
    """A figure over repeats; None where no measurement has it."""
    found = values(readings, name)
    return repeated(found) if found else None


def read_bench(path: Path) -> BenchResult:
    """The content of a file.

    Raises:
        InputError: If it cannot be read, or `jostle bench` has not written it.
    """
    return read_json(path, BenchResult, "is not what jostle bench writes")
