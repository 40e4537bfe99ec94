"""A bench as a person sees it: tables 80 columns wide, and a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from engine.bench.bench_calls import STOCK
from engine.bench.bench_comparison import ComparedFigure
from engine.bench.bench_result import BenchResult, Reading, figure, values
from engine.bench.repeats import Ratio, Repeated, ratio
from training.report.charts.load_chart import load_chart
from training.report.charts.picture import write_picture
from training.report.display import plain_table

_WORK = ("requests/s", "pairs/s", "samples/s")
_TOKENS = ("submitted/s", "computed/s", "reused/s", "generated/s")
_TIMES = ("mean", "p50", "p95", "p99", "first")


def bench_tables(result: BenchResult) -> list[Table]:
    """What was done a second, the tokens it took, and how long requests took.

    A row per way and load each; what nobody did has no column.
    """
    return [_rates(result, _WORK), _rates(result, _TOKENS, "tokens"), _times(result)]


def _rates(result: BenchResult, names: Sequence[str], unit: str = "") -> Table:
    rows = [row for row in result.rows() if _mean(row[2], "pairs/s")]
    shown = [name for name in names if any(_mean(found, name) for _, _, found in rows)]
    if all(_mean(found, "requests/s") == _mean(found, "pairs/s") for _, _, found in rows):
        shown = [name for name in shown if name != "requests/s"]  # a request is a pair
    title = f"{unit} a second".strip().capitalize()
    table = plain_table(title, "way", "load", *shown, left=2)
    for way, load, readings in rows:
        cells = (figure(readings, name) for name in shown)
        table.add_row(way, str(load), *(_with_margin(cell, shown=not unit) for cell in cells))
    return table


def _times(result: BenchResult) -> Table:
    table = plain_table(
        "Seconds of a request", "way", "load", "requests", *_TIMES, "errors", left=2
    )
    for way, load, readings in result.rows():
        requests = sum(each.figures.requests for each in readings)
        errors = sum(each.figures.errors for each in readings)
        times = [_cell(_mean(readings, name)) for name in _TIMES]
        table.add_row(way, str(load), f"{requests:,}", *times, f"{errors:,}")
    return table


def describe_bench(result: BenchResult) -> list[str]:
    """What the tables do not hold, a line each."""
    lines = []
    repeats = result.timing.repeats
    if repeats > 1:
        lines.append(
            f"\u00b1: the same again falls within it in 19 of 20 cases, by {repeats} repeats"
        )
    lines += _gains(result)
    if steps := _steps(result.readings):
        lines.append(steps)
    if (busiest := max(each.client_cpu for each in result.readings)) > 0.8:
        lines.append(f"the asking process kept {busiest:.2f} cores busy: it may be the limit;")
        lines.append("a larger --per-request takes less of it")
    return lines


def comparison_table(found: Sequence[ComparedFigure], names: Sequence[str]) -> Table:
    """Two measurements side by side, a row per way, load and figure.

    Args:
        names: What the two are called.
    """
    table = plain_table("", "way", "load", "figure", *map(escape, names), "ratio", "95 %", left=2)
    for column in table.columns[3:5]:
        column.no_wrap, column.overflow = False, "fold"
    for each in found:
        table.add_row(
            each.way,
            str(each.load),
            each.name,
            _short(each.first),
            _short(each.second),
            f"{each.ratio.value:.2f}",
            _interval(each.ratio),
        )
    return table


def draw_bench(result: BenchResult, path: Path) -> None:
    """Throughput against latency, as a picture."""
    unit = "samples" if result.workload.name == "samples" else "pairs"
    rows: list[dict[str, Any]] = []
    for order, (way, load, readings) in enumerate(result.rows()):
        rate, p50 = figure(readings, f"{unit}/s"), _mean(readings, "p50")
        if rate and rate.mean and p50:
            margin = rate.margin or 0.0
            rows.append(
                {
                    "way": way,
                    "load": str(load),
                    "order": order,
                    "rate": rate.mean,
                    "rate_low": max(0.0, rate.mean - margin),
                    "rate_high": rate.mean + margin,
                    "p50": p50,
                    "p95": _mean(readings, "p95"),
                }
            )
    write_picture(path, load_chart(unit), {"loads": rows})


def _gains(result: BenchResult) -> Iterator[str]:
    """What our route gains over vLLM's own, if both were asked."""
    for way, load, readings in result.rows():
        if way == STOCK:
            ours = values(result.of("logprobs", load), "pairs/s")
            if gain := ratio(ours, values(readings, "pairs/s")):
                yield f"{gain.value:.2f} times vLLM's own route {_interval(gain)}, {load}"
    if result.agreement is not None:
        yield f"probabilities of both routes are equal to {result.agreement:.1g}"


def _steps(readings: Sequence[Reading]) -> str | None:
    """Where the engine's time went in the last measurement that tells."""
    told = [each for each in readings if each.steps]
    if not told:
        return None
    parts = ", ".join(f"{share:.0%} {part}" for part, share in told[-1].steps.items())
    return f"time of requests in the engine, {told[-1].load}: {parts}"


def _mean(readings: list[Reading], name: str) -> float | None:
    found = figure(readings, name)
    return None if found is None else found.mean


def _with_margin(value: Repeated | None, *, shown: bool) -> str:
    if value is None:
        return ""
    margin = f" \u00b1 {_short(value.margin, 2)}" if shown and value.margin is not None else ""
    return f"{_short(value.mean)}{margin}"


def _short(value: float, digits: int = 3) -> str:
    """A few digits, or whole numbers."""
    return f"{value:,.0f}" if value >= 100 or not value else f"{value:.{digits}g}"


def _cell(value: float | None) -> str:
    return "" if value is None else _short(value)


def _interval(found: Ratio) -> str:
    if found.low is None or found.high is None:
        return ""
    return f"({found.low:.2f} to {found.high:.2f})"
