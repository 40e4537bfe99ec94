"""What the demo decides before it starts anything; the run itself is an integration test."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from engine.errors import InputError
from engine.files import write_json
from tests.engine.weights.served import live
from tests.training.fakes import make_pool
from tests.training.report.made_run import make_records, make_tasks
from training.commands.demo_run import (
    DEMO,
    DemoResult,
    choose_folder,
    demo_config,
    fit_to_pool,
    meaning,
    run_demo,
)
from training.config.run_config import RunConfig
from training.report.display import RichProgress, summary_table
from training.run.run_folder import RunFolder
from training.run.state import RunStep, open_run, plan
from training.run.summary import SummaryRow, read_summary


def make_config(tasks: int | None = None, rounds: int = 2, pool: Path | None = None) -> RunConfig:
    return demo_config(
        pool=pool,
        tasks=tasks,
        rounds=rounds,
        model="smollm2-135m",
        seed=3,
        instances=2,
        perturbations=None,
        trust_remote_code=False,
    )


def test_arguments_end_up_in_the_config() -> None:
    config = make_config(tasks=9)
    assert config.pool.max_tasks == 9
    assert config.score.n_instances == 2
    assert config.score.n_perturbations == DEMO.score.n_perturbations
    assert {config.seed, config.score.seed, config.train.seed, config.evaluate.seed} == {3}


@pytest.mark.parametrize(("tasks", "rounds", "selected"), [(None, 2, 6), (8, 1, 4), (3, 2, 1)])
def test_fewer_tasks_are_selected_from_a_small_pool(
    tasks: int | None, rounds: int, selected: int
) -> None:
    config, (pool, held_out, *_) = fit_to_pool(make_config(tasks, rounds))
    assert config.select.n_tasks == selected
    assert len(pool) >= rounds * selected
    assert len(held_out) > 0


def test_a_pool_that_is_too_small_is_told() -> None:
    with pytest.raises(InputError, match="holds 1 tasks, but 2 rounds"):
        fit_to_pool(make_config(tasks=1))


def test_unfinished_runs_are_continued_and_finished_ones_left_alone(tmp_path: Path) -> None:
    config = make_config()
    first = choose_folder(tmp_path / "demo", config)
    assert first.path == tmp_path / "demo"
    state = open_run(first, config, make_pool(1), make_pool(1, "held"), live("base"))
    assert choose_folder(tmp_path / "demo", config).path == tmp_path / "demo"
    assert choose_folder(tmp_path / "demo", make_config(tasks=5)).path == tmp_path / "demo-2"
    for _ in plan(config.rounds):
        state = state.complete(1.0, "v")
    write_json(first.state, state.model_dump(mode="json"))
    assert choose_folder(tmp_path / "demo", config).path == tmp_path / "demo-2"
    shutil.rmtree(first.path)
    first.path.mkdir()
    assert choose_folder(tmp_path / "demo", config).path == tmp_path / "demo"


def test_faults_are_found_before_anything_is_started(tmp_path: Path) -> None:
    pool = tmp_path / "pool"
    pool.mkdir()
    (pool / "broken.json").write_text("{")
    with pytest.raises(InputError, match=r"broken.json: not JSON"):
        run_demo(pool=pool, run_dir=tmp_path / "run")
    with pytest.raises(InputError, match="no such model folder"):
        run_demo(model=str(tmp_path / "no-model"), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_progress_leaves_a_line_per_step() -> None:
    console = Console(file=io.StringIO(), width=80)
    with RichProgress(console) as progress:
        progress.waiting("start the engine", 3.0, 40.0)
        progress.waiting("start the engine", 80.0, 40.0)
        progress.done("start the engine", 81.0, "ready")
        progress.begin(0, RunStep.SCORE, 5, "tasks")
        progress.advance(2, detail="a[b]")
        progress.advance(3, total=6)
        progress.end(0, RunStep.SCORE, 61.4, "mean [0.1]")
    assert isinstance(console.file, io.StringIO)
    lines = [line.split() for line in console.file.getvalue().splitlines() if line.strip()]
    assert lines == [
        ["✓", "start", "the", "engine", "1:21", "ready"],
        ["✓", "round", "0:", "score", "1:01", "mean", "[0.1]"],
    ]


def test_the_table_fits_a_terminal_and_shows_the_gain() -> None:
    row = SummaryRow(
        name="before",
        tasks_trained=0,
        rouge_l=18.4,
        exact_match=6.2,
        steps=None,
        seconds_per_step=None,
        seconds=6.0,
        weights_version="base",
    )
    later = row.model_copy(
        update={
            "name": "round 0",
            "tasks_trained": 120,
            "rouge_l": 43.9,
            "exact_match": 6.0,
            "steps": 12,
            "seconds_per_step": 3.38,
        }
    )
    console = Console(file=io.StringIO(), width=80)
    console.print(summary_table([row, later]))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "43.9 (+25.5)" in text
    assert "6.0 (-0.2)" in text
    assert "3.38" in text
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_demo_ends_in_a_sentence(tmp_path: Path) -> None:
    folder = make_records(tmp_path / "run", make_tasks(12))
    said = meaning(DemoResult(folder, read_summary(folder), folder.report))
    found = re.fullmatch(
        r"Trained on the 8 tasks it wavered on most, the model went from ROUGE-L 22.5 to 42.5 on "
        r"held-out tasks. Measured again, a repeat would pick about \d of these 4 again; chance "
        r"alone would about 1.",
        said,
    )
    assert found, said


def test_the_state_of_a_new_run_says_what_is_next(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    open_run(folder, DEMO, make_pool(1), make_pool(1, "held"), live("base"))
    state = json.loads(folder.state.read_text())
    assert state["schema_version"] == 2
    assert (state["current_round"], state["current_step"]) == (0, "before")
    assert folder.config.read_text() == DEMO.to_toml()
