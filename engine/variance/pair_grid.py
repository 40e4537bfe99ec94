"""The scored pairs of one task as tables: a row per instance, a column per prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from engine.protocol.api import PairScore
from engine.variance.analysis import Moves

if TYPE_CHECKING:
    import polars as pl

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

VALUES = ("probability", "logprob", "n_tokens", "n_prompt_tokens", "is_greedy", "second_logprob")
"""What a pair holds beside its place; the last two not always."""

_TASKS_AT_ONCE = 500

_CERTAIN = 0.02
"""Probabilities closer to 0 or 1 count as this far away: the first order is not all there."""


class PairGrid:
    """The pairs of one task. Its tables have shape (n, k + 1), column 0 holding the originals.

    A pair that is not scored is nan in them; a j that no pair has gets no column.

    Args:
        rows: Position of each pair's instance.
        perturbations: j of each pair.
        values: Of each pair those of `VALUES` that are known.
        names: Of the instances, by position.

    Raises:
        ValueError: If an instance lacks its original, or there is no pair.
    """

    def __init__(
        self,
        rows: Ints,
        perturbations: Ints,
        values: Mapping[str, Floats | Ints],
        names: Sequence[str],
    ) -> None:
        original = np.zeros(len(names), bool)
        original[rows[perturbations == 0]] = True
        if not len(names) or not original.all():
            bare = sorted(name for name, there in zip(names, original, strict=True) if not there)
            raise ValueError(
                f"every instance needs its original: no original pair for instances {bare}"
            )
        numbers = sorted(set(perturbations.tolist()))
        self._values = values
        self._place = rows, np.searchsorted(numbers, perturbations)
        self.shape = len(names), len(numbers)

    @classmethod
    def of(cls, pairs: Sequence[PairScore]) -> Self:
        """That of the pairs of one task, instances in order of appearance."""
        names: dict[str, int] = {}
        rows = [names.setdefault(pair.instance_id, len(names)) for pair in pairs]
        return cls(
            np.array(rows, dtype=np.int64),
            np.array([pair.perturbation for pair in pairs], dtype=np.int64),
            {
                name: np.array([getattr(pair, name) for pair in pairs], dtype=float)
                for name in VALUES
            },
            list(names),
        )

    @cached_property
    def probabilities(self) -> Floats:
        """p(i, j), the geometric mean per token, in [0, 1]."""
        return self._table("probability")

    @cached_property
    def logprobs(self) -> Floats:
        """Summed log-probability of the reference output, in nats, <= 0."""
        return self._table("logprob")

    @cached_property
    def n_tokens(self) -> Floats:
        """Tokens of the reference output, >= 1."""
        return self._table("n_tokens")

    @cached_property
    def n_prompt_tokens(self) -> Floats:
        return self._table("n_prompt_tokens")

    @cached_property
    def greedy(self) -> Floats:
        """1 where the output is the model's greedy answer, 0 where not, nan where unknown."""
        return self._table("is_greedy")

    @cached_property
    def second_originals(self) -> Floats:
        """p(i, 0) of a second reading, shape (n,); nan without one."""
        second: Floats = np.exp(self._table("second_logprob")[:, 0] / self.n_tokens[:, 0])
        return second

    @cached_property
    def scored(self) -> NDArray[np.bool_]:
        table = np.zeros(self.shape, bool)
        table[self._place] = True
        return table

    @property
    def originals(self) -> Floats:
        """p(i, 0), shape (n,)."""
        return self.probabilities[:, 0]

    @cached_property
    def changes(self) -> Floats:
        """p(i, j) - p(i, 0), shape (n, k)."""
        return self.probabilities[:, 1:] - self.probabilities[:, :1]

    @cached_property
    def moves(self) -> Moves:
        """|p(i, j) - p(i, 0)|, shape (n, k); k is 0 where only originals are scored."""
        return np.abs(self.changes)

    def _table(self, name: str) -> Floats:
        table = np.full(self.shape, np.nan)
        table[self._place] = self._values.get(name, np.nan)
        return table


def sensitivity(p: Floats, n_tokens: Sequence[int] | Floats) -> Floats:
    """How far a geometric mean over T tokens moves for a shift of each: p (1 - p) / sqrt(T), > 0.

    Args:
        p: The mean, of any number of outputs.
        n_tokens: T of each, >= 1.
    """
    p = np.clip(p, _CERTAIN, 1 - _CERTAIN)
    found: Floats = p * (1 - p) / np.sqrt(n_tokens)
    return found


def grids_of_table(pairs: pl.DataFrame) -> Iterator[tuple[str, PairGrid]]:
    """The id and the grid of each task of a table, tasks in order of their first rows.

    Args:
        pairs: `task_id`, `instance_id`, `perturbation` and those of `VALUES` that will be used;
            rows in any order, for instances are ordered by their ids. Memory beside the table is
            that of a few hundred tasks, if the rows of a task are together.

    Raises:
        ValueError: If an instance lacks its original.
    """
    import polars as pl

    place = ("instance_id", "perturbation")
    columns = [name for name in VALUES if name in pairs.columns]
    for runs, rows in _parts(pairs.select("task_id", *place, *columns)):
        part = rows.select(pl.col("task_id").rle_id().alias("task"), *place, *columns)
        part = part.sort("task", *place)
        begins = part.select(
            pl.any_horizontal(
                (pl.col(each) != pl.col(each).shift()).fill_null(value=True)
                for each in ("task", "instance_id")
            )
        ).to_series()
        names = part["instance_id"].filter(begins).to_list()
        instances = begins.cum_sum().to_numpy().astype(np.int64) - 1
        perturbations = part["perturbation"].to_numpy()
        values = {name: part[name].cast(pl.Float64).to_numpy() for name in columns}
        for name, start, end in runs:
            begin = instances[start]
            yield (
                name,
                PairGrid(
                    instances[start:end] - begin,
                    perturbations[start:end],
                    {column: value[start:end] for column, value in values.items()},
                    names[begin : instances[end - 1] + 1],
                ),
            )


def rows_by_task(table: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """The id and the rows of each task of a table, tasks in order of their first rows."""
    for runs, rows in _parts(table):
        for name, start, end in runs:
            yield name, rows[start:end]


def _parts(table: pl.DataFrame) -> Iterator[tuple[list[tuple[str, int, int]], pl.DataFrame]]:
    """The rows of a few hundred tasks at a time; each task's id, and where its rows lie in them."""
    import polars as pl

    runs = table["task_id"].rle().struct.unnest()
    if runs["value"].is_duplicated().any():
        first = pl.col("row").min().over("task_id")
        table = table.with_row_index("row").sort(first, "row").drop("row")
        runs = table["task_id"].rle().struct.unnest()
    begin = 0
    for part in runs.iter_slices(_TASKS_AT_ONCE):
        ends = part["len"].cum_sum().to_list()
        yield list(zip(part["value"], [0, *ends], ends, strict=False)), table[begin:][: ends[-1]]
        begin += ends[-1]
