"""The tables of `benchmarks.perturbations`: how rankings agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
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


@dataclass(frozen=True)
class Interval:
    """A value, and what 95 of 100 draws of as many tasks make of it."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, statistic: Callable[[NDArray[np.intp]], float], n_tasks: int) -> Interval:
        """The bootstrap over tasks (Efron, 1979)."""
        rng = np.random.default_rng(0)
        drawn = [statistic(rng.integers(0, n_tasks, n_tasks)) for _ in range(1_000)]
        low, high = np.nanquantile(drawn, [0.025, 0.975])
        return cls(statistic(np.arange(n_tasks)), float(low), float(high))

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


class Halves:
    """Ranks of tasks by U in two halves of their pairs that share neither instances nor
    perturbations, in several draws.
    """

    def __init__(self, grids: Sequence[Grid], n_draws: int = 20) -> None:
        moves = np.stack([grid.moves for grid in grids])
        _, n, k = moves.shape
        found = []
        for seed in range(n_draws):
            rng = np.random.default_rng(seed)
            rows, columns = rng.permutation(n), rng.permutation(k)
            for half in (slice(0, None, 2), slice(1, None, 2)):
                found.append(moves[:, rows[half]][:, :, columns[half]].mean(axis=(1, 2)))
        ranks = np.argsort(np.argsort(found, axis=1, kind="stable"), axis=1).astype(float)
        self.ranks = ranks.reshape(n_draws, 2, -1)

    def repeat(self, tasks: NDArray[np.intp]) -> float:
        """Mean correlation of two halves."""
        return _correlation(self.ranks[:, 0, tasks], self.ranks[:, 1, tasks])

    def signal(self, tasks: NDArray[np.intp]) -> float:
        """Variance of half a design's true ranks in units of its noise's."""
        return self.repeat(tasks) / (1 - self.repeat(tasks))

    def alike(self, other: Halves, tasks: NDArray[np.intp]) -> float:
        """Correlation with another setting's ranks as it were without noise (Spearman, 1904):
        between halves that share no instance, over what each repeats of itself.
        """
        one, two = self.ranks[:, :, tasks], other.ranks[:, ::-1][:, :, tasks]
        both = self.repeat(tasks) * other.repeat(tasks)
        return _correlation(one, two) / np.sqrt(both) if both > 0 else np.nan


def _correlation(one: Floats, two: Floats) -> float:
    """Pearson's along the last axis, its mean over the others."""
    one, two = (each - each.mean(axis=-1, keepdims=True) for each in (one, two))
    norms = np.sqrt((one**2).sum(axis=-1) * (two**2).sum(axis=-1))
    with np.errstate(invalid="ignore"):  # all ranks of a draw are one task's
        return float(((one * two).sum(axis=-1) / norms).mean())


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


class Setting:
    """What one setting says of all tasks.

    Attributes:
        tokens: Computed for a task, in the mean.
    """

    def __init__(self, part: pl.DataFrame) -> None:
        self.grids = grids_of(part)
        self.u, self.halves = measured(self.grids, "U"), Halves(self.grids)
        of_tasks = part.group_by("task_id").agg(pl.col("task_tokens").first())
        self.tokens = float(of_tasks["task_tokens"].to_numpy().mean())

    def row(self, usual: Setting) -> list[str]:
        """What the table says of it; `usual` is what it is held against."""
        n_tasks = len(self.grids)

        def per_token(tasks: NDArray[np.intp]) -> float:
            signals = self.halves.signal(tasks) / usual.halves.signal(tasks)
            return signals * usual.tokens / self.tokens

        beside = ["-"] * 3
        if self is not usual:
            alike = Interval.of(lambda tasks: self.halves.alike(usual.halves, tasks), n_tasks)
            common = overlap(self.u, usual.u, N_SELECT)
            beside = [str(alike), f"{common:.2f}", str(Interval.of(per_token, n_tasks))]
        return [
            f"{self.u.mean():.3f}",
            f"{np.corrcoef(self.u, measured(self.grids, 'P'))[0, 1]:+.2f}",
            str(Interval.of(self.halves.repeat, n_tasks)),
            f"{halves(self.grids, 'U').overlap:.2f}",
            *beside[:2],
            f"{self.tokens:,.0f}",
            beside[2],
        ]


def show_settings(frame: pl.DataFrame, console: Console) -> None:
    """Each setting by itself, and against the defaults."""
    settings = {
        str(part["setting"][0]): Setting(part)
        for part in frame.partition_by("setting", maintain_order=True)
    }
    console.print(
        "settings, with 95 % intervals over tasks; repeat: Spearman's correlation of two halves "
        "that share neither\ninstances nor perturbations, and the shared part of their top 12; as "
        "defaults: correlation with the defaults between\nhalves that share no instance, over what "
        "each repeats of itself, and the shared part of the top 12 of all pairs;\nper token: "
        "repeat / (1 - repeat) for a token, in that of the defaults"
    )
    table = _table("setting", "mean U", "r with P", "repeat", "top", "as defaults", "top",
                   "tokens/task", "per token")  # fmt: skip
    for name, setting in settings.items():
        table.add_row(name, *setting.row(settings[DEFAULT]))
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
