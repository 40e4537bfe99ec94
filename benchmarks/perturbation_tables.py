"""The tables of `benchmarks.perturbations`: how rankings agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks.task_subsets import Floats, given
from engine.variance.overlap import top

N_SELECT = 12
DEFAULT = "defaults"
"""The setting that the others are held against."""


@dataclass(frozen=True)
class Grid:
    """The pairs of a task: (instances, 1 + perturbations), nan where there is none."""

    p: Floats
    logprob: Floats
    greedy: Floats

    @classmethod
    def of(cls, frame: pl.DataFrame) -> Grid:
        wide = frame.sort("instance_id", "perturbation")
        shape = (frame["instance_id"].n_unique(), frame["perturbation"].n_unique())
        columns = (
            wide[name].cast(pl.Float64).to_numpy().reshape(shape)
            for name in ("probability", "logprob", "is_greedy")
        )
        return cls(*columns)

    def part(self, instances: Sequence[int], perturbations: Sequence[int]) -> Grid:
        """Some instances and perturbations (j >= 1), originals with them."""
        places = np.ix_(instances, [0, *perturbations])
        return Grid(self.p[places], self.logprob[places], self.greedy[places])

    @property
    def moves(self) -> Floats:
        return np.asarray(np.abs(self.p[:, 1:] - self.p[:, :1]))


MEASURES: dict[str, Callable[[Grid], float]] = {
    "U": lambda grid: float(grid.moves.mean()),
    "U relative to p": lambda grid: float((grid.moves / grid.p[:, :1]).mean()),
    "log-probability per token": lambda grid: float(
        np.abs(np.log(grid.p[:, 1:]) - np.log(grid.p[:, :1])).mean()
    ),
    "log-probability": lambda grid: float(np.abs(grid.logprob[:, 1:] - grid.logprob[:, :1]).mean()),
    "largest move": lambda grid: float(grid.moves.max(axis=1).mean()),
    "standard deviation": lambda grid: float(grid.p.std(axis=1).mean()),
    "flip rate": lambda grid: float(1 - grid.greedy[:, 1:].mean()),
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


def show(frame: pl.DataFrame, console: Console) -> None:
    """All tables; agreement is Spearman's correlation and the shared part of the top 12."""
    by_setting = {
        str(part["setting"][0]): part for part in frame.partition_by("setting", maintain_order=True)
    }
    grids = {
        name: [Grid.of(each) for each in part.partition_by("task_id", maintain_order=True)]
        for name, part in by_setting.items()
    }
    usual = grids[DEFAULT]
    table = Table(title="settings")
    for name in ("setting", "mean U", "two halves", "with the defaults", "r with P", "tokens/task"):
        table.add_column(name, justify="left" if name == "setting" else "right")
    for name, of_tasks in grids.items():
        values = measured(of_tasks, "U")
        of_tasks_tokens = by_setting[name].group_by("task_id").agg(pl.col("task_tokens").first())
        tokens = float(of_tasks_tokens["task_tokens"].to_numpy().mean())
        table.add_row(
            name,
            f"{values.mean():.4f}",
            str(halves(of_tasks, "U")),
            "-" if name == DEFAULT else str(Agreement.of(values, measured(usual, "U"))),
            f"{np.corrcoef(values, measured(of_tasks, 'P'))[0, 1]:+.2f}",
            f"{tokens:,.0f}",
        )
    console.print(table)
    table = Table(title="measures of the default setting's pairs")
    for name in ("measure", "two halves", "with U", "r with P"):
        table.add_column(name, justify="left" if name == "measure" else "right")
    for name in (*MEASURES, GIVEN_P):
        values = measured(usual, name)
        table.add_row(
            name,
            str(halves(usual, name)),
            "-" if name == "U" else str(Agreement.of(values, measured(usual, "U"))),
            f"{np.corrcoef(values, measured(usual, 'P'))[0, 1]:+.2f}",
        )
    console.print(table)
    table = Table(title="smaller designs, with the whole one that they are part of")
    for name in ("n", "k", "agreement"):
        table.add_column(name, justify="right")
    for n, k, agreement in designs(usual):
        table.add_row(str(n), str(k), str(agreement))
    console.print(table)
