"""Where the tasks of a scoring stand on the map, and how firmly."""

from __future__ import annotations

from collections.abc import Collection

import polars as pl

from engine.errors import InputError
from engine.measures.compute import check_scores, require_column
from engine.measures.stability import map_stability
from engine.measures.task_map import (
    CATEGORIES,
    MapConfig,
    Thresholds,
    categorise,
    find_thresholds,
)

_VERSION = "weights_version"
_NEEDED = ("task_id", "prompt_uncertainty", "prediction_probability")


def map_table(
    scores: pl.DataFrame,
    config: MapConfig | None = None,
    *,
    selected: Collection[str] | None = None,
    pairs: pl.DataFrame | None = None,
    n_replicates: int = 200,
    seed: int = 0,
    source: object | None = None,
    pairs_source: object | None = None,
) -> tuple[pl.DataFrame, Thresholds]:
    """The scores with their place on the map.

    Args:
        scores: The columns of `scores.parquet`; at least one task that could be measured.
        config: Where the borders are; at the medians by default.
        selected: Ids of the selected tasks; the column `selected` when none are given.
        pairs: The scored pairs; with them comes the stability of categories.
        n_replicates: Bootstrap replicates.
        seed: Of the bootstrap.
        source: The file of the scores, for messages.
        pairs_source: That of the pairs.

    Returns:
        The scores with `map_category` and `selected` set, and `map_stability`, `share_ambiguous`,
        `share_easy` and `share_difficult` if there are pairs, null for a task that could not be
        measured; and the borders.

    Raises:
        InputError: If a column is missing, a task is there twice or none could be measured, a
            value is no number, a selected task is not there, a task has no pairs, or the
            pairs are not complete, see `engine.measures.compute`.
    """
    _check(scores, source)
    thresholds = find_thresholds(scores, config)
    table = scores.with_columns(categorise(scores, thresholds))
    if selected is not None:
        missing = sorted(set(selected).difference(scores["task_id"]))
        if missing:
            raise InputError("is selected and not scored", file=source, record=missing[0])
        table = table.with_columns(selected=pl.col("task_id").is_in(list(selected)))
    elif "selected" not in table.columns:
        table = table.with_columns(selected=pl.lit(None, pl.Boolean))
    if pairs is None:
        return table, thresholds
    _check_pairs(pairs, scores, pairs_source)
    scored = pairs.join(scores.select("task_id"), on="task_id", how="semi", maintain_order="left")
    try:
        found = map_stability(scored, config, n_replicates=n_replicates, seed=seed)
    except InputError as fault:
        raise fault.within(pairs_source) from fault
    bare = scores.join(pairs, on="task_id", how="anti")
    if bare.height:
        raise InputError("has no pairs", file=source, record=bare["task_id"][0])
    shares = [f"share_{name}" for name in CATEGORIES]
    columns = found.select("task_id", "map_stability", *shares)
    table = table.drop(name for name in columns.columns[1:] if name in table.columns)
    return table.join(columns, on="task_id", how="left", maintain_order="left"), thresholds


def _check_pairs(pairs: pl.DataFrame, scores: pl.DataFrame, source: object | None) -> None:
    versions = [set(each[_VERSION]) for each in (pairs, scores) if _VERSION in each.columns]
    if len(versions) == 2 and not versions[1] <= versions[0]:
        problem = "the pairs are not those of these scores: other weights"
        raise InputError(problem, file=source, field=_VERSION)
    require_column(pairs, "task_id", source)


def _check(scores: pl.DataFrame, source: object | None) -> None:
    check_scores(scores, _NEEDED, source)
    if scores.is_empty():
        raise InputError("holds no task", file=source)
    if scores["prompt_uncertainty"].null_count() == scores.height:
        problem = "no task could be measured: no perturbed prompt differs from the original"
        raise InputError(problem, file=source, field="prompt_uncertainty")
    for column in _NEEDED[1:]:
        is_absent = pl.lit(column == "prompt_uncertainty") & pl.col(column).is_null()
        bad = scores.filter(~(pl.col(column).is_finite().fill_null(value=False) | is_absent))
        if bad.height:
            record = bad["task_id"][0]
            raise InputError("the score is not a number", file=source, record=record, field=column)
