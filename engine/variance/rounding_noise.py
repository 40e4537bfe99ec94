"""What rounding alone makes of prompt uncertainty, from original pairs that were read twice.

Say reading a pair once adds an error to p of deviation s: sums run in another order in other
company, and what is rounded comes out otherwise. Then a move of 0 is read as |e' - e|, whose mean
is the *noise floor*, and U of the same instances and perturbations, read once more, is off by an
error that is known up to s. To first order s goes by p (1 - p) / sqrt(T), as moves do (see
`engine.design.measurement`), so a pool's few second readings tell one factor for all of its tasks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from engine.variance.overlap import expected_overlap
from engine.variance.pair_grid import PairGrid, grids_of_table, sensitivity

if TYPE_CHECKING:
    import polars as pl

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SecondReadings:
    """What one task says of rounding.

    Attributes:
        differences: |p' - p| of its originals that were read twice.
        expected: What that is expected to be, up to the factor.
        floor: The mean of what is expected over all of its instances.
        error: Deviation of U over readings, up to the deviation of a reading; the error of an
            original is shared by all of its moves that go in one direction.
    """

    differences: Floats
    expected: Floats
    floor: float
    error: float

    @classmethod
    def of(cls, grid: PairGrid) -> Self:
        """Those of a task with perturbed pairs."""
        expected = sensitivity(grid.originals, grid.n_tokens[:, 0])
        differences = np.abs(grid.second_originals - grid.originals)
        read = np.isfinite(differences)
        moves = np.maximum(grid.scored[:, 1:].sum(axis=1), 1)
        together = np.nansum(np.sign(grid.changes), axis=1) ** 2
        weights = (together + moves) / moves.sum() ** 2
        return cls(
            differences=differences[read],
            expected=expected[read],
            floor=float(expected.mean()),
            error=math.sqrt(float((weights * expected**2).sum())),
        )


class Noise(NamedTuple):
    """What rounding makes of the prompt uncertainty of one task; both in units of probability.

    Attributes:
        floor: Expected U where no probability moves but by rounding.
        error: Standard deviation of U over readings of the very same pairs.
    """

    floor: float
    error: float


def noise_columns(pairs: pl.DataFrame) -> pl.DataFrame:
    """`task_id`, `noise_floor` and `noise_error` of each task of a table, see `Noise`.

    Args:
        pairs: Columns of `pairs.parquet`, in any order; without `second_logprob` all is null.
    """
    import polars as pl

    names, tasks = [], []
    for name, grid in grids_of_table(pairs):
        names.append(name)
        tasks.append(SecondReadings.of(grid) if grid.moves.size else None)
    rows = [each or (None, None) for each in rounding_noise(tasks)]
    noise = {"noise_floor": pl.Float64, "noise_error": pl.Float64}
    return pl.DataFrame(
        [(name, *row) for name, row in zip(names, rows, strict=True)],
        schema={"task_id": pl.String, **noise},
        orient="row",
    )


def noise_in_words(scores: pl.DataFrame) -> str | None:
    """What rounding makes of a pool's scores, for a person; none where nothing was read twice.

    Args:
        scores: Columns of `scores.parquet`, one row per task.
    """
    names = ["prompt_uncertainty", "noise_floor", "noise_error"]
    known = scores.select("precision", *names).drop_nulls(names)
    if known.is_empty():
        return None
    u, floor, error = known.select(names).to_numpy().T
    stay = expected_overlap(u, error, math.ceil(len(u) / 2))
    moved = math.sqrt(2 * (error**2).mean())  # both readings are off
    return (
        f"noise floor {floor.mean():.2g}: what rounding ({known['precision'][0]}) alone makes of "
        f"prompt uncertainty; {(u < 2 * floor).sum():,} tasks lie below twice that. Read again, "
        f"tasks move by {moved:.2g}, and the top half keeps {stay:.0%}"
    )


def rounding_noise(tasks: Sequence[SecondReadings | None]) -> list[Noise | None]:
    """The noise of each task of a pool, from the second readings of all of them.

    Args:
        tasks: None for a task without perturbed pairs, which has no noise either.

    Returns:
        None for all where nothing was read twice.
    """
    read = [each for each in tasks if each is not None and each.differences.size]
    if not read:
        return [None] * len(tasks)
    differences = np.concatenate([each.differences for each in read])
    expected = np.concatenate([each.expected for each in read])
    mean = float(differences.sum() / expected.sum())
    # A difference holds the errors of two readings.
    deviation = math.sqrt(float((differences**2).sum() / (expected**2).sum()) / 2)
    return [
        None if each is None else Noise(mean * each.floor, deviation * each.error) for each in tasks
    ]
