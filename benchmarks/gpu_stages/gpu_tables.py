"""The tables of `benchmarks.gpu`, from the records of its stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

Row = Mapping[str, Any]

_EXACT: dict[str, Callable[[Row], str]] = {
    "engine": lambda row: str(row["engine"]),
    "max dp": lambda row: _number(row, "max_dp", ".1e"),
    "mean dp": lambda row: _number(row, "mean_dp", ".1e"),
    "max dlogp": lambda row: _number(row, "max_dlogp", ".1e"),
    "mean dlogp": lambda row: _number(row, "mean_dlogp", ".1e"),
    "again, max dp": lambda row: _number(row, "again_max_dp", ".1e"),
    "scored twice": lambda row: _number(row, "again_pairs_rescored", "d"),
    "greedy agrees": lambda row: _share(row, "greedy_agree", "tokens"),
}

_LOADS: dict[str, Callable[[Row], str]] = {
    "engine": lambda row: str(row["engine"]),
    "load": lambda row: str(row["load"]),
    "": lambda row: "accepted" if row["accepted"] else "refused",
    "right": lambda row: "yes" if row["right"] else "NO",
    "seconds": lambda row: _number(row, "seconds", ".2f"),
}


def print_tables(console: Console, device: str, known: Mapping[str, Row]) -> None:
    """Prints all there is.

    Args:
        known: The records of the stages by name.
    """
    console.print(f"{device}", highlight=False)
    precision = known.get("precision", {"rows": []})["rows"]
    exact = [row for row in precision if row["kind"] == "exact"]
    loads = [row for row in precision if row["kind"] == "load"]
    _print(console, "SmolLM2-135M against transformers in float32", _EXACT, exact)
    _print(console, "loads, seconds beside engines that start", _LOADS, loads)
    large = [row for name in ("speed", "variants", "peers") for row in _rows(known, name)]
    _print_speed(console, "8B shape, random weights, bfloat16", large)
    _print_speed(console, "SmolLM2-135M, bfloat16", _rows(known, "small"))
    for row in _rows(known, "demo"):
        console.print(f"{row['name']}: {row['seconds']:.0f} s", highlight=False)
    for name, record in known.items():
        if record["fault"]:
            console.print(f"{name}: {record['fault']}", highlight=False, markup=False)


def _rows(known: Mapping[str, Row], name: str) -> list[Row]:
    return list(known.get(name, {"rows": []})["rows"])


def _print_speed(console: Console, title: str, rows: Sequence[Row]) -> None:
    """Pairs per second beside the floor and the peer on vLLM."""
    rate = next((row["flops"] for row in rows if "flops" in row), None)
    whole = next((row for row in rows if row["name"].startswith("vLLM") and "pairs" in row), None)
    columns: dict[str, Callable[[Row], str]] = {
        "way": lambda row: str(row["name"]),
        "pairs": lambda row: _number(row, "pairs", ",d"),
        "seconds": lambda row: _number(row, "seconds", ".1f"),
        "pairs/s": lambda row: f"{speed(row):.1f}" if "seconds" in row else "",
        "steady": lambda row: _number(row, "steady_pairs_per_second", ".1f"),
        "tokens/s": lambda row: (
            f"{row['tokens_computed'] / row['seconds']:,.0f}" if "tokens_computed" in row else ""
        ),
        "x whole": lambda row: (
            f"{speed(row) / speed(whole):.2f}" if whole and "seconds" in row else ""
        ),
        "x floor": lambda row: (
            f"{row['seconds'] * rate / row['floor_flops']:.2f}"
            if rate and "floor_flops" in row
            else ""
        ),
        "computed / unique": lambda row: _ratio(row, "tokens_computed", "tokens_unique"),
        "twice": lambda row: _number(row, "pairs_rescored", "d"),
        "start s": lambda row: _number(row, "start_s", ".0f"),
    }
    _print(console, title, columns, [row for row in rows if "flops" not in row])
    if rate:
        console.print(f"matrix products: {rate / 1e12:.0f} TFLOP/s", highlight=False)


def speed(row: Row) -> float:
    """Pairs per second."""
    return float(row["pairs"] / row["seconds"])


def _print(
    console: Console, title: str, columns: Mapping[str, Callable[[Row], str]], rows: Sequence[Row]
) -> None:
    """A table of the rows without a fault, and the faults."""
    whole = [row for row in rows if "fault" not in row]
    if whole:
        table = Table(title=title)
        for number, column in enumerate(columns):
            table.add_column(column, justify="right" if number else "left")
        for row in whole:
            table.add_row(*(cell(row) for cell in columns.values()))
        console.print(table)
    for row in rows:
        if "fault" in row:
            name = row.get("name") or row.get("engine")
            console.print(f"{name}: {row['fault']}", highlight=False, markup=False)


def _number(row: Row, key: str, form: str) -> str:
    value = row.get(key)
    return "" if value is None else format(value, form)


def _ratio(row: Row, part: str, whole: str) -> str:
    return f"{row[part] / row[whole]:.3f}" if part in row and whole in row else ""


def _share(row: Row, part: str, whole: str) -> str:
    return f"{row[part]} of {row[whole]}" if part in row else ""
