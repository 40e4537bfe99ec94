"""The tables of `benchmarks.perturbations`: how rankings agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.evidence.task_subsets import Floats, given
from engine.variance.overlap import top

N_SELECT = 12
DEFAULT = "defaults"
"""The setting that the others are held against."""


@dataclass(frozen=True)
class Grid:
    """The pairs of a task, shape (instances, 1 + perturbations), column 0 holding the originals.

    Attributes:
        p: Probabilities.
        logprob: Log-probabilities of whole outputs.
        greedy: Whether the output is the greedy one, as 0 or 1; none where it is not known.
    """

    p: Floats
    logprob: Floats
    greedy: Floats | None = None

    @classmethod
    def of(cls, frame: pl.DataFrame) -> Grid:
        """Of rows in any order, those of stored pairs or of `benchmarks.perturbations`."""
        name = "instance" if "instance" in frame.columns else "instance_id"
        ordered = frame.sort(name, "perturbation")
        shape = (frame[name].n_unique(), frame["perturbation"].n_unique())
        p = ordered["probability"].to_numpy().astype(np.float64).reshape(shape)
        logprob = np.log(p) * ordered["n_tokens"].to_numpy().reshape(shape)
        if "is_greedy" not in frame.columns:
            return cls(p, logprob)
        return cls(p, logprob, ordered["is_greedy"].to_numpy().astype(np.float64).reshape(shape))

    def part(self, instances: Sequence[int], perturbations: Sequence[int]) -> Grid:
        """Some instances and perturbations (j >= 1), originals with them."""
        places = np.ix_(instances, [0, *perturbations])
        greedy = None if self.greedy is None else self.greedy[places]
        return Grid(self.p[places], self.logprob[places], greedy)

    @property
    def moves(self) -> Floats:
        return np.asarray(np.abs(self.p[:, 1:] - self.p[:, :1]))


def grids_of(frame: pl.DataFrame) -> list[Grid]:
    """One per task, in their order."""
    return [Grid.of(each) for each in frame.partition_by("task_id", maintain_order=True)]


def _flips(grid: Grid) -> float:
    assert grid.greedy is not None
    return float(1 - grid.greedy[:, 1:].mean())


MEASURES: dict[str, Callable[[Grid], float]] = {
    "U": lambda grid: float(grid.moves.mean()),
    "U relative to p": lambda grid: float((grid.moves / grid.p[:, :1]).mean()),
    "log-probability per token": lambda grid: float(
        np.abs(np.log(grid.p[:, 1:]) - np.log(grid.p[:, :1])).mean()
    ),
    "log-probability": lambda grid: float(np.abs(grid.logprob[:, 1:] - grid.logprob[:, :1]).mean()),
    "largest move": lambda grid: float(grid.moves.max(axis=1).mean()),
    "standard deviation": lambda grid: float(grid.p.std(axis=1).mean()),
    "flip rate": _flips,
    "P": lambda grid: float(grid.p[:, 0].mean()),
}
"""Of one task."""

GIVEN_P = "U given P"


def measured(grids: Sequence[Grid], name: str) -> Floats:
    """A measure of every task."""
    if name == GIVEN_P:
        return given(measured(grids, "U"), measured(grids, "P"))
    return np.array([MEASURES[name](grid) for grid in grids])


def rank_correlation(one: Floats, other: Floats) -> float:
    """Spearman's, ties in order of position."""
    first, second = (np.argsort(np.argsort(each, kind="stable")) for each in (one, other))
    return float(np.corrcoef(first, second)[0, 1])


def overlap(one: Floats, other: Floats, n: int) -> float:
    """Share of the top n that both have."""
    return len(set(top(one, n)) & set(top(other, n))) / n


@dataclass(frozen=True)
class Agreement:
    """Two rankings of the same tasks."""

    correlation: float
    overlap: float

    @classmethod
    def of(cls, one: Floats, other: Floats, n: int = N_SELECT) -> Agreement:
        return cls(rank_correlation(one, other), overlap(one, other, n))

    def __str__(self) -> str:
        return f"{self.correlation:.2f} / {self.overlap:.2f}"


def halves(grids: Sequence[Grid], name: str, n_draws: int = 20) -> Agreement:
    """Mean agreement of two halves that share neither instances nor perturbations."""
    found = []
    for seed in range(n_draws):
        rng = np.random.default_rng(seed)
        parts: tuple[list[Grid], list[Grid]] = ([], [])
        for grid in grids:
            n, k = grid.p.shape[0], grid.p.shape[1] - 1
            rows, columns = rng.permutation(n), 1 + rng.permutation(k)
            for part, half in zip(parts, (slice(0, None, 2), slice(1, None, 2)), strict=True):
                part.append(grid.part(rows[half].tolist(), columns[half].tolist()))
        found.append(Agreement.of(measured(parts[0], name), measured(parts[1], name)))
    return Agreement(
        float(np.mean([each.correlation for each in found])),
        float(np.mean([each.overlap for each in found])),
    )


def designs(grids: Sequence[Grid], n_draws: int = 20) -> list[tuple[int, int, Agreement]]:
    """Agreement of smaller designs with the whole one."""
    n_most, k_most = grids[0].p.shape[0], grids[0].p.shape[1] - 1
    whole = measured(grids, "U")
    rows = []
    for n in (2, 5, 10):
        for k in (1, 2, 5, 10):
            if n > n_most or k > k_most or (n, k) == (n_most, k_most):
                continue
            found = []
            for seed in range(n_draws):
                rng = np.random.default_rng(seed)
                part = [
                    grid.part(
                        rng.permutation(n_most)[:n].tolist(),
                        (1 + rng.permutation(k_most)[:k]).tolist(),
                    )
                    for grid in grids
                ]
                found.append(Agreement.of(measured(part, "U"), whole))
            mean = Agreement(
                float(np.mean([each.correlation for each in found])),
                float(np.mean([each.overlap for each in found])),
            )
            rows.append((n, k, mean))
    return rows


def show_settings(frame: pl.DataFrame, console: Console) -> None:
    """Each setting by itself, and against the defaults."""
    by_setting = {
        str(part["setting"][0]): part for part in frame.partition_by("setting", maintain_order=True)
    }
    usual = measured(grids_of(by_setting[DEFAULT]), "U")
    console.print("settings: Spearman's correlation / shared part of the top 12")
    table = _table(
        "setting", "mean U", "two halves", "with the defaults", "r with P", "tokens/task"
    )
    for name, part in by_setting.items():
        grids = grids_of(part)
        values = measured(grids, "U")
        of_tasks = part.group_by("task_id").agg(pl.col("task_tokens").first())
        tokens = float(of_tasks["task_tokens"].to_numpy().mean())
        table.add_row(
            name,
            f"{values.mean():.4f}",
            str(halves(grids, "U")),
            "-" if name == DEFAULT else str(Agreement.of(values, usual)),
            f"{np.corrcoef(values, measured(grids, 'P'))[0, 1]:+.2f}",
            f"{tokens:,.0f}",
        )
    console.print(table)


def show_measures(grids: Sequence[Grid], title: str, console: Console) -> None:
    """Measures of the same pairs: how repeatable, how like U and P."""
    console.print(f"measures, {title}: Spearman's correlation / shared part of the top 12")
    table = _table("measure", "two halves", "with U", "r with P")
    usual = measured(grids, "U")
    known = [name for name in MEASURES if name != "flip rate" or grids[0].greedy is not None]
    for name in (*known, GIVEN_P):
        values = measured(grids, name)
        table.add_row(
            name,
            str(halves(grids, name)),
            "-" if name == "U" else str(Agreement.of(values, usual)),
            f"{np.corrcoef(values, measured(grids, 'P'))[0, 1]:+.2f}",
        )
    console.print(table)


def show_designs(grids: Sequence[Grid], title: str, console: Console) -> None:
    """Smaller designs against the whole one that they are part of."""
    console.print(f"designs, {title}: agreement with the whole one")
    table = _table("n x k", "agreement")
    for n, k, agreement in designs(grids):
        table.add_row(f"{n} x {k}", str(agreement))
    console.print(table)


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first)
    for heading in others:
        table.add_column(heading, justify="right")
    return table
