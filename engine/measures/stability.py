"""How sure a task's place on the map is: the bootstrap over instances and perturbations.

Another seed would have drawn other instances and other perturbations. Each replicate draws both
anew, with replacement, from those that were scored: instances within a task, and perturbations
within a task, the same for all of its instances, as they share them. From the replicate's measures
follow its borders, where these are quantiles, and from both every task's category.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from engine.measures.compute import check_table
from engine.measures.task_map import CATEGORIES, MapConfig, Thresholds, categorise, find_thresholds
from engine.variance.pair_grid import grids_of_table

_POINT: dict[str, Any] = {
    "task_id": pl.String,
    "prompt_uncertainty": pl.Float64,
    "prediction_probability": pl.Float64,
}

_Floats = npt.NDArray[np.float64]


def map_stability(
    pairs: pl.DataFrame,
    config: MapConfig | None = None,
    *,
    n_replicates: int = 200,
    seed: int = 0,
) -> pl.DataFrame:
    """The categories of tasks, and the shares of bootstrap replicates that give each category.

    With one instance per task only the perturbations vary, with one perturbation only the
    instances: the shares then look surer than they are.

    Args:
        pairs: The columns of `pairs.parquet`.
        config: Where the borders of the map are.
        n_replicates: Replicates, B. Memory is 16 bytes per task and replicate.
        seed: Of the draws; each task's draws depend on it and the task's place alone.

    Returns:
        A row per task that can be measured (one with perturbed pairs), in the order of its first
        pair: `task_id`, `prompt_uncertainty`,
        `prediction_probability`, `map_category`, `map_stability` (the share of replicates with this
        very category, in [0, 1]), `share_ambiguous`, `share_easy`, `share_difficult`.

    Raises:
        InputError: If the pairs are not complete, see `engine.measures.compute`.
    """
    config = config or MapConfig()
    check_table(pairs, "pairs")
    pairs = pairs.filter((pl.col("perturbation") > 0).any().over("task_id"))
    points: list[tuple[str, float, float]] = []
    u = np.empty((pairs["task_id"].n_unique(), n_replicates))
    p = np.empty_like(u)
    for index, (task_id, grid) in enumerate(grids_of_table(pairs)):
        points.append((task_id, float(np.nanmean(grid.moves)), float(grid.originals.mean())))
        draw = np.random.default_rng((seed, index))
        u[index], p[index] = _replicates(grid.originals, grid.moves, n_replicates, draw)
    table = pl.DataFrame(points, schema=_POINT, orient="row")
    borders = Thresholds(uncertainty=0, probability=0)
    category = categorise(table, borders if table.is_empty() else find_thresholds(table, config))
    shares = dict(zip(CATEGORIES, _category_shares(u, p, config), strict=True))
    table = table.with_columns(
        category, **{f"share_{name}": pl.Series(values) for name, values in shares.items()}
    )
    own = pl.coalesce(
        pl.when(pl.col("map_category") == name).then(pl.col(f"share_{name}")) for name in CATEGORIES
    )
    return table.select(
        *_POINT,
        "map_category",
        own.alias("map_stability"),
        *(f"share_{name}" for name in CATEGORIES),
    )


def _replicates(
    originals: _Floats, moves: _Floats, n_replicates: int, draw: np.random.Generator
) -> tuple[_Floats, _Floats]:
    """U and P of each replicate, both of shape (B,)."""
    n, k = moves.shape
    instances = draw.multinomial(n, np.full(n, 1 / n), size=n_replicates).astype(np.float64)
    perturbations = draw.multinomial(k, np.full(k, 1 / k), size=n_replicates).astype(np.float64)
    scored = ~np.isnan(moves)
    total = np.sum((instances @ np.where(scored, moves, 0.0)) * perturbations, axis=1)
    count = np.sum((instances @ scored.astype(np.float64)) * perturbations, axis=1)
    # A replicate may draw none of the pairs that were scored; it then says what the whole does.
    everything = np.full(n_replicates, np.nanmean(moves))
    u = np.divide(total, count, out=everything, where=count > 0)
    return u, instances @ originals / n


def _category_shares(u: _Floats, p: _Floats, config: MapConfig) -> tuple[_Floats, _Floats, _Floats]:
    """Shares of replicates in which each task is ambiguous, easy, difficult; shape (T,) each."""
    if len(u) == 0:
        empty = np.empty(0)
        return empty, empty, empty
    high_u: _Floats | float = (
        np.quantile(u, config.uncertainty_quantile, axis=0)
        if config.uncertainty is None
        else config.uncertainty
    )
    high_p: _Floats | float = (
        np.quantile(p, config.probability_quantile, axis=0)
        if config.probability is None
        else config.probability
    )
    ambiguous = u > high_u
    easy = ~ambiguous & (p >= high_p)
    return ambiguous.mean(axis=1), easy.mean(axis=1), (~ambiguous & ~easy).mean(axis=1)
