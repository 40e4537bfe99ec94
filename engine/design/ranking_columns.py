"""What the table of a scored pool's pairs says: ranking estimates, and variance components."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from engine.design.assisted import Evidence, estimate
from engine.design.measurement import Expectation, Measurement, shift
from engine.errors import InputError
from engine.measures.compute import check_table
from engine.variance.analysis import Analysis
from engine.variance.components import Components
from engine.variance.pair_grid import grids_of_table
from engine.variance.pooling import Pooled

RANKING_COLUMNS = ("ranking_estimate", "ranking_error")


def ranking_columns(
    pairs: pl.DataFrame, strengths: Mapping[str, float | None] | None = None
) -> pl.DataFrame:
    """What each task's prompt uncertainty is guessed to be, with the help of the other tasks.

    See `engine.design.assisted`; the value guessed is that over all instances and perturbations
    there could be.

    Args:
        pairs: Likelihood pairs: `task_id`, `instance_id`, `perturbation`, `n_prompt_tokens`,
            `n_tokens` and `probability`, in any order.
        strengths: `engine.design.measurement.perturbation_strength` of each task; where it is not
            known, a design is taken to be as strong as a whole one.

    Returns:
        `task_id`, `ranking_estimate` and its standard error `ranking_error`, one row per task that
        has a perturbed pair.

    Raises:
        ValueError: If an instance lacks its original.
    """
    names, tables, expected = [], [], []
    for name, grid in grids_of_table(pairs):
        if not grid.moves.size:
            continue
        measured = Measurement.of_grid(grid)
        lengths = grid.n_prompt_tokens
        original = float(lengths[:, 0].mean())
        changes = np.nanmean(np.abs(lengths[:, 1:] - lengths[:, :1]), axis=0)
        shifts = [shift(original + change, original) for change in changes.tolist()]
        tables.append(Analysis.of(measured.moves))
        expected.append(Expectation.of(measured, shifts, (strengths or {}).get(name)))
        names.append(name)
    schema = {"task_id": pl.String, **dict.fromkeys(RANKING_COLUMNS, pl.Float64)}
    if not names:
        return pl.DataFrame(schema=schema)
    found = estimate(Evidence.of(tables, expected))
    return pl.DataFrame([names, np.minimum(found.value, 1.0), found.error], schema)


def components_of_pairs(pairs: pl.DataFrame, source: object | None = None) -> Components:
    """The variance components of a scored pool, relative to the squared prompt uncertainty.

    Args:
        pairs: Likelihood pairs as measures take them (`engine.measures.measure.PAIRS`), in any
            order; at least one.
        source: The file they came from, for messages.

    Raises:
        InputError: If the table is not one of pairs, see `engine.measures.compute.check_table`, or
            has no perturbed one.
    """
    check_table(pairs, "pairs", source)
    tables = [Analysis.of(grid.moves) for _, grid in grids_of_table(pairs) if grid.moves.size]
    if not tables:
        raise InputError("holds no perturbed pair", file=source)
    return Pooled.of(tables).relative
