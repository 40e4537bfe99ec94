"""The tables of `benchmarks.perturbations`: how rankings agree."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.evidence.task_subsets import Floats, given
from engine.variance.overlap import top

Places = NDArray[np.intp]

N_SELECT = 12
N_DRAWS = 20
N_RESAMPLES = 1_000
SIZES = (2, 5, 10)
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


def ranks(values: Floats) -> Floats:
    """Of the last axis; equal values share the mean of theirs."""
    rows = values.reshape(-1, values.shape[-1])
    found = [pl.Series(row).rank("average").to_numpy() for row in rows]
    return np.stack(found).reshape(values.shape)


def correlation(one: Floats, two: Floats) -> float:
    """Pearson's along the last axis, its mean over the others; nan where one side is constant."""
    one, two = (each - each.mean(axis=-1, keepdims=True) for each in (one, two))
    norms = np.sqrt((one**2).sum(axis=-1) * (two**2).sum(axis=-1))
    with np.errstate(invalid="ignore"):
        return float(((one * two).sum(axis=-1) / norms).mean())


def rank_correlation(one: Floats, other: Floats) -> float:
    """Spearman's."""
    return correlation(ranks(one), ranks(other))


def overlap(one: Floats, other: Floats, n: int = N_SELECT) -> float:
    """Share of the top n that both have."""
    return len(set(top(one, n)) & set(top(other, n))) / n


@dataclass(frozen=True)
class Interval:
    """A value, and what draws of as many tasks make of it."""

    value: float
    low: float
    high: float

    @classmethod
    def of(
        cls, statistic: Callable[[Places], float], n_tasks: int, level: float = 0.95
    ) -> Interval:
        """The bootstrap over tasks (Efron, 1979), between percentiles."""
        rng = np.random.default_rng(0)
        drawn = [statistic(rng.integers(0, n_tasks, n_tasks)) for _ in range(N_RESAMPLES)]
        with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # all nan
            low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])
        return cls(statistic(np.arange(n_tasks)), float(low), float(high))

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def in_halves(grids: Sequence[Grid]) -> Iterator[tuple[list[Grid], list[Grid]]]:
    """Draws of two halves that share neither instances nor perturbations: of grids of one shape the
    same ones, so halves of two settings share no more.
    """
    n, k = grids[0].p.shape[0], grids[0].p.shape[1] - 1
    for seed in range(N_DRAWS):
        rng = np.random.default_rng(seed)
        rows, columns = rng.permutation(n), 1 + rng.permutation(k)
        one, other = (
            [grid.part(rows[half].tolist(), columns[half].tolist()) for grid in grids]
            for half in (slice(0, None, 2), slice(1, None, 2))
        )
        yield one, other


class Halves:
    """A measure of all tasks, in two halves of their pairs, in several draws."""

    def __init__(self, grids: Sequence[Grid], name: str) -> None:
        values = np.array([[measured(half, name) for half in both] for both in in_halves(grids)])
        self.ranks = ranks(values)  # (draws, 2, tasks)
        jitter = 1e-9 * np.random.default_rng(0).random(values.shape)  # equal values by lot
        self.overlap = float(np.mean([overlap(*both) for both in values + jitter]))

    def repeat(self, tasks: Places) -> float:
        """Spearman's correlation of two halves."""
        return correlation(self.ranks[:, 0, tasks], self.ranks[:, 1, tasks])

    def alike(self, other: Halves, tasks: Places) -> float:
        """Correlation with other ranks as it were without noise (Spearman, 1904): between halves
        that share no instance, over what each repeats of itself.
        """
        one, two = self.ranks[:, :, tasks], other.ranks[:, ::-1][:, :, tasks]
        both = self.repeat(tasks) * other.repeat(tasks)
        return correlation(one, two) / math.sqrt(both) if both > 0 else math.nan

    def needs(self, tasks: Places) -> float:
        """How many halves together repeat themselves to 0.5 (Spearman and Brown, 1910)."""
        repeat = self.repeat(tasks)
        return (1 - repeat) / repeat if repeat > 0 else math.inf


@dataclass(frozen=True)
class Design:
    """So many instances and perturbations, held against a half of the pairs that is not theirs."""

    n: int
    k: int
    agreement: Interval


def designs(grids: Sequence[Grid]) -> list[Design]:
    """Designs that fit into half of the pairs, by how they rank tasks as the other half does."""
    found: dict[tuple[int, int], list[Floats]] = {}
    others = []
    for seed, (one, other) in enumerate(in_halves(grids)):
        others.append(measured(other, "U"))
        rng = np.random.default_rng([seed, 1])
        n_most, k_most = one[0].p.shape[0], one[0].p.shape[1] - 1
        rows, columns = rng.permutation(n_most), 1 + rng.permutation(k_most)
        for n in (each for each in SIZES if each <= n_most):
            for k in (each for each in SIZES if each <= k_most):
                part = [grid.part(rows[:n].tolist(), columns[:k].tolist()) for grid in one]
                found.setdefault((n, k), []).append(measured(part, "U"))
    against = ranks(np.array(others))

    def agreement(values: list[Floats]) -> Interval:
        mine = ranks(np.array(values))
        return Interval.of(lambda tasks: correlation(mine[:, tasks], against[:, tasks]), len(grids))

    return [Design(n, k, agreement(values)) for (n, k), values in found.items()]


class Setting:
    """What one setting says of all tasks.

    Attributes:
        tokens: Computed for a task, in the mean.
        distinct: Perturbed prompts of a task that differ from its original and one another.
    """

    def __init__(self, part: pl.DataFrame) -> None:
        self.grids = grids_of(part)
        self.u = measured(self.grids, "U")
        self.halves, self.given_p = (Halves(self.grids, name) for name in ("U", GIVEN_P))
        tasks = part.partition_by("task_id")
        self.tokens = float(np.mean([task["task_tokens"][0] for task in tasks]))
        self.distinct = float(np.mean([_distinct(task) for task in tasks]))

    def row(self, usual: Setting, level: float) -> list[str]:
        """What the table says of it; `usual` is what it is held against."""
        n_tasks = len(self.grids)

        def costs(tasks: Places) -> float:
            return (
                self.tokens * self.halves.needs(tasks)
                / (usual.tokens * usual.halves.needs(tasks))
            )  # fmt: skip

        beside = ["-"] * 4
        if self is not usual:
            alike = Interval.of(lambda tasks: self.halves.alike(usual.halves, tasks), n_tasks)
            given_p = Interval.of(lambda tasks: self.given_p.alike(usual.given_p, tasks), n_tasks)
            common = f"{overlap(self.u, usual.u):.2f}"
            beside = [str(alike), common, str(given_p), str(Interval.of(costs, n_tasks, level))]
        return [
            f"{self.distinct:.1f}",
            f"{self.u.mean():.3f}",
            f"{rank_correlation(self.u, measured(self.grids, 'P')):+.2f}",
            str(Interval.of(self.halves.repeat, n_tasks)),
            f"{self.halves.overlap:.2f}",
            *beside[:2],
            f"{self.given_p.repeat(np.arange(n_tasks)):.2f}",
            beside[2],
            f"{self.tokens:,.0f}",
            beside[3],
        ]


def _distinct(task: pl.DataFrame) -> int:
    """How many perturbed prompts of a task there are, told by their lengths and what they say."""
    said = [
        tuple(each.select("n_prompt_tokens", "logprob").iter_rows())
        for each in task.sort("perturbation", "instance_id").partition_by(
            "perturbation", maintain_order=True
        )
    ]
    return len({*said} - {said[0]})


def show_settings(frame: pl.DataFrame, pool: str, console: Console, *, level: float) -> None:
    """Each setting by itself, and against the defaults.

    Args:
        level: Of the intervals of costs.
    """
    settings = {
        str(part["setting"][0]): Setting(part)
        for part in frame.partition_by("setting", maintain_order=True)
    }
    usual = settings[DEFAULT]
    n, k = usual.grids[0].p.shape
    console.print(
        f"settings, {len(usual.grids)} tasks ({pool}), {n} x {k - 1}, outputs of at most "
        f"{frame['n_tokens'].to_numpy().max()} tokens, layers in bfloat16; 95 % intervals over "
        "tasks\n"
        "distinct: perturbed prompts of a task that differ; with P: Spearman's correlation\n"
        "repeat, top: Spearman's correlation of two halves that share neither instances nor "
        "perturbations, and the shared part of their top 12\n"
        "as defaults, top: correlation with the defaults between halves that share no instance, "
        "over what each repeats of itself; shared part of the top 12 of all pairs\n"
        "given P, as defaults: the same of U given P; cost: tokens for repeating itself as well, "
        f"in those of the defaults, with a {100 * level:g} % interval"
    )
    table = _table("setting", "distinct", "mean U", "with P", "repeat", "top", "as defaults", "top",
                   "given P", "as defaults", "tokens", "cost")  # fmt: skip
    for name, setting in settings.items():
        table.add_row(name, *setting.row(usual, level))
    console.print(table)


def show_measures(grids: Sequence[Grid], title: str, console: Console) -> None:
    """Measures of the same pairs: how repeatable, how like U and P."""
    n_tasks, usual = len(grids), Halves(grids, "U")
    console.print(f"measures, {title}: columns as in the table of settings, U for the defaults")
    table = _table("measure", "repeat", "top", "as U", "with P")
    known = [name for name in MEASURES if name != "flip rate" or grids[0].greedy is not None]
    for name in (*known, GIVEN_P):
        found = Halves(grids, name)
        alike = "-"
        if name != "U":
            alike = str(Interval.of(lambda tasks, found=found: found.alike(usual, tasks), n_tasks))  # type: ignore[misc]
        table.add_row(
            name,
            str(Interval.of(found.repeat, n_tasks)),
            f"{found.overlap:.2f}",
            alike,
            f"{rank_correlation(measured(grids, name), measured(grids, 'P')):+.2f}",
        )
    console.print(table)


def show_designs(frame: pl.DataFrame, title: str, console: Console) -> None:
    """Smaller designs against pairs that are not theirs, and what they cost.

    Args:
        frame: Stored pairs of `benchmarks.reference_pairs`.
    """
    console.print(f"designs, {title}: agreement with the half that shares no pair with them")
    means = frame.select(pl.col("prefix_tokens", "tail_tokens", "n_tokens").cast(float).mean())
    prefix, tail, output = means.row(0)
    table = _table("n x k", "agreement", "tokens")
    for design in designs(grids_of(frame)):
        tokens = (1 + design.k) * (prefix + design.n * (tail + output))
        table.add_row(f"{design.n} x {design.k}", str(design.agreement), f"{tokens:,.0f}")
    console.print(table)


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first)
    for heading in others:
        table.add_column(heading, justify="right", no_wrap=True)
    return table
