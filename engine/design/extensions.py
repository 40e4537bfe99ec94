"""The steps by which a table can grow, for all tasks at once.

The first pair under a perturbation pays for its prefix, so a perturbation is worth having with a
few of the instances already:

- `perturbations`: new ones, each with a few of the instances, those used least;
- `block`: new instances and one perturbation that all of them meet, a new one unless there can be
  no more;
- `instances`: new ones under all perturbations there are;
- `holes`: some more of the instances for every perturbation there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from engine.questions.incidence import least_used
from engine.variance.analysis import Analysis

Floats = NDArray[np.float64]
Scored = NDArray[np.bool_]
"""Which pairs of a table are scored, shape (instances, perturbations)."""

Kind = Literal["perturbations", "block", "instances", "holes"]


class Growth(NamedTuple):
    """One way to grow.

    Attributes:
        kind: See the module.
        new: New perturbations, or new instances; 0 for holes. A float is a share of those there
            are, one at least.
        each: Instances for every perturbation; all the new ones in a block or with `instances`.
    """

    kind: Kind
    new: int | float
    each: int = 0


GROWTHS = (
    *(Growth("perturbations", new, each) for new in (1, 2, 1 / 2) for each in (1, 2, 3, 5)),
    *(Growth("block", new) for new in (1, 2, 3, 4)),
    *(Growth("instances", new) for new in (1, 1 / 3, 1 / 2, 1.0)),
    *(Growth("holes", 0, each) for each in (1, 2, 4)),
)


@dataclass(frozen=True, slots=True)
class Room:
    """What the tables of all tasks cost and how large they can get; one entry per task.

    Attributes:
        prefix: `TaskCost.prefix`.
        tail: `TaskCost.tail`.
        instances: Instances at most.
        perturbations: Perturbations at most.
        prefixes_kept: Whether a prefix is still in the engine's cache when a task is visited again.
    """

    prefix: Floats
    tail: Floats
    instances: Floats
    perturbations: Floats
    prefixes_kept: bool


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the tables of all tasks are; one entry per task.

    Attributes:
        free: Instances that each perturbation has not met, shape (tasks, most perturbations); 0
            where a task has no such perturbation.
        n: Instances.
        k: Perturbations.
        effective_n: See `engine.variance.analysis.Analysis`.
        effective_k: Likewise.
        cells: Moves.
    """

    free: Floats
    n: Floats
    k: Floats
    effective_n: Floats
    effective_k: Floats
    cells: Floats

    @classmethod
    def of(cls, tables: Sequence[Scored], analyses: Sequence[Analysis]) -> Self:
        """Those of tables that have been analysed."""
        free = np.zeros((len(tables), max(table.shape[1] for table in tables)))
        for row, table in zip(free, tables, strict=True):
            row[: table.shape[1]] = len(table) - table.sum(axis=0)
        return cls(
            free=free,
            n=np.array([analysis.n for analysis in analyses], dtype=float),
            k=np.array([analysis.k for analysis in analyses], dtype=float),
            effective_n=np.array([analysis.effective_n for analysis in analyses]),
            effective_k=np.array([analysis.effective_k for analysis in analyses]),
            cells=np.array([analysis.cells for analysis in analyses], dtype=float),
        )


@dataclass(frozen=True, slots=True)
class NextTables:
    """Tables that tasks could have next, shape (options, tasks).

    Attributes:
        rows: New instances of each option's step.
        columns: New perturbations.
        effective_n: What the table would have then.
        effective_k: Likewise.
        cells: Likewise.
        tokens: What the step costs; inf where it changes nothing.
    """

    rows: Floats
    columns: Floats
    effective_n: Floats
    effective_k: Floats
    cells: Floats
    tokens: Floats


def options(sizes: Sizes, limits: Room) -> NextTables:
    """All of `GROWTHS`."""
    prefix, tail = limits.prefix, limits.tail
    again = np.zeros_like(prefix) if limits.prefixes_kept else prefix
    found = []
    for step in GROWTHS:
        rows, columns, visited, added = _additions(step, sizes, limits)
        tokens = columns * prefix + visited * again + (rows + added) * tail
        tokens += np.where(rows > 0, again, 0.0)  # of the original prompts
        tokens = np.where(added > 0, tokens, np.inf)
        found.append((rows, columns, *_grown_sizes(sizes, rows, columns, added), tokens))
    return NextTables(*(np.array(each) for each in zip(*found, strict=True)))


def _additions(step: Growth, sizes: Sizes, limits: Room) -> tuple[Floats, Floats, Floats, Floats]:
    """New instances, new perturbations, old ones that are visited again, and new moves."""
    n, k, none = sizes.n, sizes.k, np.zeros_like(sizes.n)
    # A task may have started with more than the limit.
    more_n = np.maximum(limits.instances - n, 0)
    more_k = np.maximum(limits.perturbations - k, 0)
    if step.kind == "perturbations":
        columns = np.minimum(_number(step.new, k), more_k)
        return none, columns, none, columns * np.minimum(step.each, n)
    if step.kind == "holes":
        met = (sizes.free > 0).sum(axis=1).astype(float)
        return none, none, met, np.minimum(sizes.free, step.each).sum(axis=1)
    rows = np.minimum(_number(step.new, n), more_n)
    if step.kind == "instances":
        return rows, none, k, rows * k
    columns = np.minimum(1.0, more_k)
    return rows, np.where(rows > 0, columns, 0.0), 1 - columns, rows


def _number(new: int | float, there: Floats) -> Floats:
    if isinstance(new, int):
        return np.full_like(there, new)
    return np.asarray(np.maximum(1.0, np.floor(there * new)))


def _grown_sizes(
    sizes: Sizes, rows: Floats, columns: Floats, added: Floats
) -> tuple[Floats, Floats, Floats]:
    """Effective instances and perturbations, and cells, when `added` moves have come.

    New rows share them evenly; without new rows, those used least come first and all end up alike.
    So do new columns; without them, the old ones are taken to grow in proportion.
    """
    m = sizes.cells
    grown = m + added
    in_rows = m**2 / sizes.effective_n + added**2 / np.maximum(rows, 1)
    in_columns = m**2 / sizes.effective_k + added**2 / np.maximum(columns, 1)
    effective_n = np.where(rows > 0, grown**2 / in_rows, sizes.n)
    effective_k = np.where(columns > 0, grown**2 / in_columns, sizes.effective_k)
    return effective_n, effective_k, grown


def grown(scored: Scored, step: Growth, rows: int, columns: int, draw: str) -> Scored:
    """The pairs of a table that a step makes of another.

    Args:
        step: One of `GROWTHS`.
        rows: How many instances it adds.
        columns: How many perturbations it adds.
        draw: Seed of the order of instances that are used equally often.
    """
    n, k = scored.shape
    after = np.zeros((n + rows, k + columns), bool)
    after[:n, :k] = scored
    if step.kind == "instances":
        after[n:] = True
    elif step.kind == "block":
        after[n:, k if columns else scored.sum(axis=0).argmin()] = True
    else:
        for j in range(k if columns else 0, k + columns):
            after[_least_used(after, j, step.each, draw), j] = True
    return after


def _least_used(scored: Scored, j: int, each: int, draw: str) -> NDArray[np.int64]:
    """The instances that perturbation j + 1 meets next, those used least."""
    free = np.flatnonzero(~scored[:, j])
    used = scored.sum(axis=1)[free]
    return free[list(least_used(used.tolist(), each, f"{draw}/{j + 1}"))]
