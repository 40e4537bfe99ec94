"""The task map: which tasks are ambiguous, easy or difficult, and which cannot be measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from engine.tasks import Record

if TYPE_CHECKING:
    import polars as pl

CATEGORIES = ("ambiguous", "easy", "difficult")
"""The categories, in the order in which they are shown."""

UNMEASURABLE = "unmeasurable"
"""In the place of a category: no perturbed prompt of the task differs from its original."""

Share = Annotated[float, Field(ge=0, le=1)]


class MapConfig(Record):
    """Where the borders of the map are.

    Attributes:
        uncertainty_quantile: Quantile of prompt uncertainty above which tasks are ambiguous.
        probability_quantile: Quantile of prediction probability from which on tasks that are not
            ambiguous are easy.
        uncertainty: The border of prompt uncertainty itself; the quantile then means nothing.
        probability: The border of prediction probability itself.
    """

    uncertainty_quantile: Share = 0.5
    probability_quantile: Share = 0.5
    uncertainty: Share | None = None
    probability: Share | None = None


class Thresholds(Record):
    """The borders of a map, as values of prompt uncertainty and prediction probability."""

    uncertainty: float
    probability: float


def find_thresholds(scores: pl.DataFrame, config: MapConfig | None = None) -> Thresholds:
    """The borders for these tasks; quantiles are interpolated linearly.

    Those whose prompt uncertainty is null count for nothing; at least one other task.

    Args:
        scores: Columns `prompt_uncertainty` and `prediction_probability`, one row per task.
        config: Where the borders are; at the medians by default.
    """
    config = config or MapConfig()
    u, p = config.uncertainty, config.probability
    scores = scores.drop_nulls("prompt_uncertainty")
    if u is None:
        u = scores["prompt_uncertainty"].quantile(config.uncertainty_quantile, "linear")
    if p is None:
        p = scores["prediction_probability"].quantile(config.probability_quantile, "linear")
    assert u is not None
    assert p is not None
    return Thresholds(uncertainty=u, probability=p)


def categorise(scores: pl.DataFrame, thresholds: Thresholds) -> pl.Series:
    """The map category of each row of `scores`.

    `ambiguous`: prompt uncertainty above its border; else `easy` with prediction probability at or
    above its border, and `difficult` with less (Kung et al., 2023, section 5). `unmeasurable`:
    prompt uncertainty is null.
    """
    import polars as pl

    return scores.select(
        pl.when(pl.col("prompt_uncertainty").is_null())
        .then(pl.lit(UNMEASURABLE))
        .when(pl.col("prompt_uncertainty") > thresholds.uncertainty)
        .then(pl.lit("ambiguous"))
        .when(pl.col("prediction_probability") >= thresholds.probability)
        .then(pl.lit("easy"))
        .otherwise(pl.lit("difficult"))
        .alias("map_category")
    ).to_series()


def map_categories(scores: pl.DataFrame) -> pl.Series:
    """The map category of each row of `scores`, with borders at the medians; see `categorise`."""
    if scores["prompt_uncertainty"].count() == 0:
        return categorise(scores, Thresholds(uncertainty=0, probability=0))
    return categorise(scores, find_thresholds(scores))
