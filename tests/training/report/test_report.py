"""Reports and maps by the data they hold, without a browser."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from engine.files import read_json
from engine.measures import map_categories
from engine.pools.writing import write_pool
from engine.tasks import Pool
from engine.variance.overlap import expected_overlap, in_words
from engine.variance.rank_intervals import rank_intervals
from tests.training.report.made_run import NASTY, make_records, make_tasks
from tests.training.report.page_data import page_data
from training.config.run_config import PoolConfig, load_config
from training.report.map_table import map_table
from training.report.number_places import place_numbers
from training.report.report_data import COLUMNS, cost_rows, curve_rows, rank_rows
from training.report.run_report import DETAILED_TASKS, write_run_report
from training.report.scorings import Scoring, draw_map, marks_of, scorings_of
from training.run.run_folder import RunFolder
from training.run.state import RunState
from training.run.summary import mean_uncertainty, uncertainty_in_words
from training.tables.score_tables import SCORE_COLUMNS
from training.tables.table_files import write_parquet


def make_scores(n_tasks: int, uncertainty: float = 0.3) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "task_id": [f"task-{index}" for index in range(n_tasks)],
            "prompt_uncertainty": [uncertainty * index / n_tasks for index in range(n_tasks)],
            "standard_error": [0.01] * n_tasks,
            "prediction_probability": [0.5] * n_tasks,
            "perplexity": [2.0] * n_tasks,
            "flip_rate": [0.25] * n_tasks,
            "noise_floor": [None] * n_tasks,
            "noise_error": [None] * n_tasks,
            "n_instances": [1] * n_tasks,
            "n_perturbations": [2] * n_tasks,
            "map_category": ["ambiguous"] * n_tasks,
            "selected": [index == 0 for index in range(n_tasks)],
            "precision": ["float32"] * n_tasks,
            "weights_version": ["base"] * n_tasks,
        },
        schema=SCORE_COLUMNS,
    )


def test_the_map_of_a_run_is_a_picture_of_its_data(tmp_path: Path) -> None:
    folder = make_records(tmp_path / "run", make_tasks(12))
    (folder.path / "round-02").mkdir()  # begun, but not scored
    scorings = scorings_of(folder)
    draw_map(tmp_path / "map.svg", scorings, dark=True)
    picture = (tmp_path / "map.svg").read_text()
    first = folder.round(0).read_selection().task_ids[0]
    for said in ("prompt uncertainty U", "prediction probability P", "round 1: 8 tasks", first):
        assert said in picture
    marks = re.findall(
        r'aria-label="prediction probability P: ([^;]+); prompt uncertainty U: ([^;]+); '
        r'colour: (\w+)"[^>]* transform="translate\(([^,]+),([^)]+)\)"',
        picture,
    )
    rows = [row for each in scorings for row in each.table.iter_rows(named=True)]
    assert len(rows) == 12 + 8
    for row, (p, u, colour, _, _) in zip(rows, marks, strict=True):
        assert float(p) == pytest.approx(row["prediction_probability"])
        assert float(u) == pytest.approx(row["prompt_uncertainty"])
        assert colour == row["map_category"]
    # Each stands where it says: to the right by P, upwards by U, on the same axes in both rounds.
    p, u, x, y = (np.array([float(mark[i]) for mark in marks]) for i in (0, 1, 3, 4))
    for values, places, sign in ((p, x, 1), (u, y, -1)):
        slope, start = np.polyfit(values, places, 1)
        assert sign * slope > 0
        assert places == pytest.approx(start + slope * values, abs=1e-3)


def test_a_pool_that_was_edited_is_not_shown_as_what_was_scored(tmp_path: Path) -> None:
    tasks = make_tasks(12)
    folder, file = make_records(tmp_path / "run", tasks), tmp_path / "pool.jsonl"
    config = load_config(folder.config)
    pool = PoolConfig(path=str(file), held_out="bundled")
    folder.config.write_text(config.model_copy(update={"pool": pool}).to_toml())
    changed = tasks[1].model_copy(update={"definition": "something else"})
    write_pool(Pool((tasks[0], changed)), file)  # too few for the rounds, too
    shown = page_data(write_run_report(folder))["tasks"]
    assert len(shown["id"]) == 12
    texts = dict(zip(shown["id"], shown["definition"], strict=True))
    assert {name: text for name, text in texts.items() if text} == {"task-0": tasks[0].definition}


@pytest.mark.slow
def test_a_png_is_the_same_picture_in_dots(tmp_path: Path) -> None:
    scorings = scorings_of(make_records(tmp_path / "run", make_tasks(12)))
    few, all_of_them = tmp_path / "few.png", tmp_path / "all.png"
    draw_map(few, scorings[:1])
    draw_map(all_of_them, scorings)
    sizes = []
    for path in (few, all_of_them):
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG")
        sizes.append(struct.unpack(">II", content[16:24]))
    assert sizes[0][0] == sizes[1][0] > 680, "340 of a panel's width at two dots each, and more"
    assert sizes[1][1] > 1.8 * sizes[0][1], "a panel below the other"
    draw_map(tmp_path / "dark.png", scorings, dark=True)
    assert (tmp_path / "dark.png").read_bytes() != all_of_them.read_bytes()


def test_a_map_without_any_uncertainty_is_drawn(tmp_path: Path) -> None:
    table, thresholds = map_table(make_scores(1, 0.0))
    draw_map(tmp_path / "map.svg", [Scoring.of("one", table, thresholds)])
    assert "one: 1 tasks" in (tmp_path / "map.svg").read_text()


@pytest.mark.parametrize("n_measured", [0, 3])
def test_tasks_that_could_not_be_measured_are_counted(tmp_path: Path, n_measured: int) -> None:
    u = pl.when(pl.int_range(pl.len()) < n_measured).then("prompt_uncertainty")
    scores = make_scores(5).with_columns(prompt_uncertainty=u)
    scores = scores.with_columns(map_categories(scores).alias("map_category"))
    assert scores["map_category"].to_list().count("unmeasurable") == 5 - n_measured
    told = uncertainty_in_words(scores)
    mean = mean_uncertainty(scores)
    left = f"{5 - n_measured} cannot be measured: no perturbed prompt differs from the original"
    folder = RunFolder(tmp_path)
    write_parquet(folder.round(0).scores, scores)
    if n_measured:
        assert told == f"5 tasks, mean prompt uncertainty {0.3 / 5:.4f}; {left}"
        assert mean == pytest.approx(0.3 / 5)
        (scoring,) = scorings_of(folder)
        assert left in scoring.about
        draw_map(tmp_path / "map.svg", [scoring])
        assert left in (tmp_path / "map.svg").read_text()
    else:
        assert told == f"5 tasks; {left}"
        assert mean is None
        assert scorings_of(folder) == []


def test_a_report_holds_what_the_records_say(tmp_path: Path) -> None:
    tasks = make_tasks(12, NASTY)
    folder = make_records(tmp_path / "run [1]", tasks)
    path = write_run_report(folder, tasks)
    assert path == folder.path / "report.html"
    data = page_data(path)
    assert data["tasks"]["id"] == [task.id for task in tasks]
    assert data["tasks"]["definition"] == [task.definition for task in tasks]
    first, second = data["rounds"]
    scores = folder.round(1).read_scores()
    known = dict(zip(scores["task_id"], scores["prompt_uncertainty"], strict=True))
    for task_id, value in zip(
        data["tasks"]["id"], second["values"]["prompt_uncertainty"], strict=True
    ):
        assert value == (pytest.approx(known[task_id], rel=1e-5) if task_id in known else None)
    chosen = [data["tasks"]["id"][place] for place in first["selected"]]
    assert chosen == list(folder.round(0).read_selection().task_ids)
    assert [row["trained"] for row in data["curve"] if row["metric"] == "ROUGE-L"] == [0, 4, 8]
    assert dict(data["facts"])["weights of round 1"] == "round-01-abc"

    details = page_data(path, "details-0")
    place = data["detailed"].index(0)
    own = details[place]
    assert own["prompts"]["0"].startswith(NASTY[0])
    assert own["prompts"]["1"] != own["prompts"]["0"]
    assert own["0"]["answers"]["i1"] == "answer <b>1</b>"
    assert len(own["0"]["pairs"]) == 3 * 5
    assert own["instances"]["i2"] == {"input": "input 2 of 0", "gold": ["yes"]}


def test_texts_are_data_and_nothing_asks_the_network(tmp_path: Path) -> None:
    tasks = make_tasks(8, NASTY)
    page = write_run_report(make_records(tmp_path / "run", tasks), tasks).read_text()
    assert "taken" not in page
    assert "onerror=alert" not in page
    assert page.count("<script") == 4, "data, details, and two of ours"
    assert "default-src 'none'" in page
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"(src|href)=\"(?!#)|https?://|@import|url\(", markup)


@pytest.mark.slow
def test_a_report_of_a_thousand_tasks_is_small(tmp_path: Path) -> None:
    tasks = make_tasks(DETAILED_TASKS)
    folder = make_records(tmp_path / "run", tasks, n_perturbations=10, n_selected=50)
    path = write_run_report(folder, tasks)
    assert path.stat().st_size < 6e6
    assert len(page_data(path)["detailed"]) == DETAILED_TASKS


def test_ranks_are_those_of_the_selection_or_none(tmp_path: Path) -> None:
    folder = make_records(tmp_path / "run", make_tasks(20))
    scoring = scorings_of(folder)[0]
    found = rank_rows(scoring)
    assert found is not None
    assert [row["task"] for row in found["rows"][:4]] == list(scoring.selected)
    assert [row["group"] for row in found["rows"]] == ["selected"] * 4 + ["next in rank"] * 4
    assert found["cut"] == [{"rank": 4.5}]
    said = r"a repeat would pick about \d\.\d of these 4 again, chance alone 0\.8"
    assert re.fullmatch(said, found["words"])
    at_random = Scoring(scoring.name, scoring.table, scoring.thresholds, ("task-1", "task-2"))
    assert rank_rows(at_random) is None
    raced = {"prompt_uncertainty": "ranking_estimate", "standard_error": "ranking_error"}
    table = scoring.table.rename(raced)
    by_estimate = rank_rows(Scoring("race", table, scoring.thresholds, scoring.selected))
    assert by_estimate is not None
    u, s = table.select(*raced.values()).to_numpy().T
    assert by_estimate["words"] == in_words(expected_overlap(u, s, 4, shrunk=True), 4, 20)


def test_sure_measurements_have_narrow_rank_intervals() -> None:
    values = pl.Series([0.1, 0.5, 0.3]).to_numpy()
    low, high = rank_intervals(values, values * 1e-6)
    assert low.tolist() == high.tolist() == [3, 1, 2]
    low, high = rank_intervals(values, values * 0 + 1.0)
    assert (low == 1).all()
    assert (high == 3).all()


def test_costs_and_curves_are_those_of_the_records(tmp_path: Path) -> None:
    folder = make_records(tmp_path / "run", make_tasks(12))
    costs = cost_rows(folder, read_json(folder.state, RunState))
    seconds = {(row["round"], row["what"]): row["amount"] for row in costs["seconds"]}
    assert seconds["before", "evaluate"] == 10.0
    assert seconds["round 1", "the rest"] == 3 * 11.0
    tokens = {(row["round"], row["what"]): row["amount"] for row in costs["tokens"]}
    assert tokens["round 0", "computed to score"] == 300
    assert tokens["round 0", "reused from the cache"] == 600
    rows = [row for row in curve_rows(folder) if row["metric"] == "ROUGE-L"]
    assert [(row["value"], row["low"], row["high"]) for row in rows[:2]] == [
        (22.5, 20.0, 25.0),
        (32.5, 30.0, 35.0),
    ]


def test_columns_that_are_not_there_are_left_out(tmp_path: Path) -> None:
    tasks = make_tasks(8)
    folder = make_records(tmp_path / "run", tasks)
    scores = folder.round(0).read_scores().with_columns(flip_rate=pl.lit(0.25))
    write_parquet(folder.round(0).scores, scores)
    first, second = page_data(write_run_report(folder, tasks))["rounds"]
    assert set(first["values"]) - set(second["values"]) == {"flip_rate"}
    assert set(second["values"]) < set(COLUMNS)


def test_numbers_of_marks_that_lie_close_together_do_not_hide_each_other() -> None:
    scores = make_scores(4).with_columns(
        prompt_uncertainty=pl.Series([0.3, 0.3, 0.3, 0.1]),
        selected=pl.Series([True, True, True, False]),
    )
    table, thresholds = map_table(scores)
    rows, key = marks_of(Scoring.of("one", table, thresholds), 0.4)
    places = {(row["dx"], row["dy"]) for row in rows if "number" in row}
    assert len(places) == len(key) == 3
    assert "number" not in rows[3]


def test_numbers_of_many_marks_stand_clear_of_marks_and_each_other() -> None:
    rng = np.random.default_rng(0)
    marks = rng.uniform((0, 0), (340, 300), (60, 2))
    numbered = list(range(15))
    middles = marks[numbered] + place_numbers(marks, numbered)
    between = np.abs(middles[:, None] - middles[None]) < (14, 10)
    assert between.all(axis=2).sum() == 15, "each on itself alone"
    on_marks = np.abs(middles[:, None] - marks[None]) < (7, 6)
    assert on_marks.all(axis=2).sum() <= 1
    assert np.linalg.norm(middles - marks[numbered], axis=1).max() < 25
