from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from engine.measures.compute import compute_measures
from engine.measures.measure_testing import draw_table
from engine.measures.stability import map_stability
from engine.measures.task_map import MapConfig, find_thresholds, map_categories

PAIRS = draw_table("pairs", 1, n_tasks=12, n_instances=5, k=6)
FIXED = MapConfig(uncertainty=0.2, probability=0.5)


def test_shares_sum_to_one_and_name_the_own_category() -> None:
    found = map_stability(PAIRS)
    assert found["task_id"].to_list() == [f"t{index}" for index in range(12)]
    assert found["map_category"].to_list() == map_categories(found).to_list()
    for row in found.iter_rows(named=True):
        shares = [row[f"share_{name}"] for name in ("ambiguous", "easy", "difficult")]
        assert sum(shares) == pytest.approx(1)
        assert row["map_stability"] == row[f"share_{row['map_category']}"]
        assert 0 <= row["map_stability"] <= 1


def test_it_is_repeatable_and_seeded() -> None:
    assert map_stability(PAIRS, seed=3).equals(map_stability(PAIRS, seed=3))
    assert not map_stability(PAIRS, seed=3).equals(map_stability(PAIRS, seed=4))


def test_against_drawing_one_replicate_after_the_other() -> None:
    """Same distribution as the plainest bootstrap of one task, with borders given as values."""
    task = PAIRS.filter(pl.col("task_id") == "t4")
    grid = task["probability"].to_numpy().reshape(5, 7)
    draw = np.random.default_rng(0)
    counts = {"ambiguous": 0, "easy": 0, "difficult": 0}
    for _ in range(4000):
        drawn = grid[draw.integers(0, 5, 5)]
        columns = 1 + draw.integers(0, 6, 6)
        u = np.abs(drawn[:, columns] - drawn[:, :1]).mean()
        p = drawn[:, 0].mean()
        counts["ambiguous" if u > 0.2 else "easy" if p >= 0.5 else "difficult"] += 1
    found = map_stability(task, FIXED, n_replicates=4000).row(0, named=True)
    for name, count in counts.items():
        assert found[f"share_{name}"] == pytest.approx(count / 4000, abs=0.04)


def test_nothing_varies_nothing_moves() -> None:
    still = PAIRS.with_columns(probability=pl.lit(0.7))
    found = map_stability(still, FIXED)
    assert found["map_category"].to_list() == ["easy"] * 12
    assert found["map_stability"].to_list() == [1.0] * 12


def test_pairs_that_a_race_left_out_are_not_counted() -> None:
    """Of the last task only one perturbation of one instance was scored."""
    j, task = pl.col("perturbation"), pl.col("task_id")
    raced = PAIRS.filter((task != "t11") | (j == 0) | ((j == 1) & (pl.col("instance_id") == "i0")))
    found = map_stability(raced, FIXED)
    measured = compute_measures(raced)
    for name in ("prompt_uncertainty", "prediction_probability"):
        assert found[name].to_list() == pytest.approx(measured[name].to_list(), rel=1e-12)
    # The one move that was scored is what every replicate sees.
    shares = found.row(-1, named=True)
    assert shares["share_ambiguous"] == float(shares["prompt_uncertainty"] > 0.2)


def test_one_task_and_none() -> None:
    assert map_stability(PAIRS.filter(pl.col("task_id") == "t0")).height == 1
    empty = map_stability(PAIRS.clear())
    assert empty.height == 0
    assert empty.columns[-1] == "share_difficult"


def test_borders_by_quantile_or_by_value() -> None:
    scores = pl.DataFrame(
        {"prompt_uncertainty": [0.1, 0.2, 0.3], "prediction_probability": [0.2, 0.4, 0.9]}
    )
    found = find_thresholds(scores, MapConfig(uncertainty_quantile=0.75, probability=0.3))
    assert found.uncertainty == pytest.approx(0.25)
    assert found.probability == 0.3
