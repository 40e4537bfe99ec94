from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.measures import map_categories
from training.report.label_placement import place_labels
from training.report.map_picture import draw_run
from training.run.run_folder import RunFolder
from training.run.summary import mean_uncertainty, uncertainty_in_words
from training.tables.record_files import write_parquet
from training.tables.score_tables import SCORE_COLUMNS

unit = st.floats(0.1, 0.9)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(unit, unit), min_size=1, max_size=8, unique=True))
def test_labels_keep_off_each_other_and_inside(places: list[tuple[float, float]]) -> None:
    """On a panel with room to spare, no label touches another one or leaves the frame."""
    middles = np.array(places) * 400
    dots = np.hstack([middles - 3, middles + 3])
    labels = [(index, 60.0, 8.0) for index in range(len(places))]
    offsets = place_labels(dots, labels, (0.0, 0.0, 400.0, 400.0))
    boxes = [
        (x + dx, y + dy, x + dx + 60, y + dy + 8)
        for (x, y), (dx, dy) in zip(middles, offsets, strict=True)
    ]
    for index, (left, bottom, right, top) in enumerate(boxes):
        assert left >= -1e-6
        assert bottom >= -1e-6
        assert right <= 400 + 1e-6
        assert top <= 400 + 1e-6
        for other in boxes[:index]:
            assert min(right, other[2]) <= max(left, other[0]) or min(top, other[3]) <= max(
                bottom, other[1]
            )


def make_scores(n_tasks: int, uncertainty: float = 0.3) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "task_id": [f"task-{index}" for index in range(n_tasks)],
            "prompt_uncertainty": [uncertainty * index / n_tasks for index in range(n_tasks)],
            "standard_error": [0.01] * n_tasks,
            "prediction_probability": [0.5] * n_tasks,
            "perplexity": [2.0] * n_tasks,
            "n_instances": [1] * n_tasks,
            "n_perturbations": [2] * n_tasks,
            "map_category": ["ambiguous"] * n_tasks,
            "selected": [index == 0 for index in range(n_tasks)],
            "weights_version": ["base"] * n_tasks,
        },
        schema=SCORE_COLUMNS,
    )


@pytest.mark.parametrize("n_rounds", [1, 3])
def test_the_map_of_a_run_is_a_picture(tmp_path: Path, n_rounds: int) -> None:
    folder = RunFolder(tmp_path)
    for index in range(n_rounds):
        write_parquet(folder.round(index).scores, make_scores(5))
    (folder.path / f"round-{n_rounds:02d}").mkdir()  # begun, but not scored
    path = draw_run(folder)
    assert path == folder.task_map
    assert path.read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob("*.part*"))


@pytest.mark.parametrize("n_measured", [0, 3])
def test_tasks_that_could_not_be_measured_are_counted(tmp_path: Path, n_measured: int) -> None:
    u = pl.when(pl.int_range(pl.len()) < n_measured).then("prompt_uncertainty")
    scores = make_scores(5).with_columns(prompt_uncertainty=u)
    scores = scores.with_columns(map_categories(scores).alias("map_category"))
    assert scores["map_category"].to_list().count("unmeasurable") == 5 - n_measured
    told = uncertainty_in_words(scores)
    mean = mean_uncertainty(scores)
    left = f"{5 - n_measured} cannot be measured: no perturbed prompt differs from the original"
    if n_measured:
        assert told == f"5 tasks, mean prompt uncertainty {0.3 / 5:.4f}; {left}"
        assert mean == pytest.approx(0.3 / 5)
    else:
        assert told == f"5 tasks; {left}"
        assert mean is None
    folder = RunFolder(tmp_path)
    write_parquet(folder.round(0).scores, scores)
    assert draw_run(folder).is_file()


def test_a_map_without_any_uncertainty_is_drawn(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    scores = make_scores(1, 0.0).with_columns(selected=pl.lit(None, pl.Boolean))
    write_parquet(folder.round(0).scores, scores)
    assert draw_run(folder).is_file()
