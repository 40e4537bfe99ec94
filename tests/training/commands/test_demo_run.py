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
from engine.pools.writing import write_pool
from tests.engine.weights.served import live
from tests.training.commands.test_sweep_runs import Runs
from tests.training.fakes import KilledError, make_pool
from tests.training.report.made_run import make_records, make_tasks
from tests.training.report.page_data import page_data
from tests.training.run.test_base_model import begin, place_model
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
from training.report.run_report import write_run_report
from training.run.run_folder import RunFolder
from training.run.state import RunStep, open_run, plan
from training.run.summary import SummaryRow


def make_config(tasks: int | None = None, rounds: int = 2, pool: Path | None = None) -> RunConfig:
    return demo_config(pool=pool, tasks=tasks, rounds=rounds, seed=3, instances=2)


def test_arguments_end_up_in_the_config() -> None:
    config = make_config(tasks=9)
    assert config.pool.max_tasks == 9
    assert config.score.n_instances == 2
    assert config.score.n_perturbations == DEMO.score.n_perturbations
    assert config.score.is_crossed, "a design that is asked for is scored as a whole"
    assert {config.seed, config.score.seed, config.train.seed, config.evaluate.seed} == {3}


def test_the_context_is_no_longer_than_the_model_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text('{"n_positions": 1024}')
    assert demo_config(model=str(tmp_path)).model.max_model_len == 1024
    monkeypatch.setattr("engine.weights.models.local_folder", lambda _: tmp_path)
    assert demo_config(model="gpt2").model.max_model_len == 1024, "the copy of the hub's cache"
    assert demo_config(model="gpt2").model.name == "gpt2"


@pytest.mark.parametrize(
    ("tasks", "rounds", "selected"), [(None, 1, 12), (None, 3, 9), (8, 1, 4), (3, 2, 1)]
)
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
        run_demo(demo_config(pool=pool), tmp_path / "run")
    with pytest.raises(InputError, match="no such model folder"):
        run_demo(demo_config(model=str(tmp_path / "no-model")), tmp_path / "run")
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


def test_the_demo_ends_in_a_table_and_sentences(tmp_path: Path) -> None:
    tasks = make_tasks(24)
    folder = make_records(tmp_path / "run", tasks, n_rounds=1, n_selected=12)
    make_records(folder.beside, tasks, n_rounds=1, n_selected=12, gain=6.0)
    result = DemoResult(folder, write_run_report(folder, tasks))
    assert [row.name for row in result.rows] == ["before", "chosen", "random"]
    assert [row.seconds for row in result.rows] == [10, 60, 50], "random tasks need no scoring"
    gained, worth, sure = meaning(result).splitlines()
    assert gained == (
        "Trained on the 12 tasks it wavered on most, the model went from ROUGE-L 22.5 to 32.5 on "
        "held-out tasks; 12 random ones brought it to 28.5."
    )
    assert worth == (
        "The choice did better by 4.0 (+4.0 to +4.0 with other held-out tasks), in one draw of "
        "each: whether choosing helps is open."
    )
    said = (
        r"How sure is the choice\? With other inputs and other dropped words a repeat would pick "
        r"about \d+ of these 12 again, chance alone 6\."
    )
    assert re.fullmatch(said, sure)
    data = page_data(result.report)
    assert {row["run"] for row in data["curve"]} == {"random", "prompt_uncertainty"}
    assert [row["pair"] for row in data["differences"]] == [
        "prompt_uncertainty less random, 12 tasks"
    ]


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        (10.0, "The difference of +0.0 may be none (+0.0 to +0.0 with other"),
        (12.5, "Chance did better by 5.0 (-5.0 to -5.0 with"),
    ],
)
def test_the_demo_says_when_random_tasks_did_as_well(
    tmp_path: Path, gain: float, said: str
) -> None:
    folder = make_records(tmp_path / "run", make_tasks(12))
    make_records(folder.beside, make_tasks(12), gain=gain)
    result = DemoResult(folder, folder.report)
    assert said in meaning(result)
    assert [row.name for row in result.rows] == [
        "before",
        *("chosen, round 0", "chosen, round 1", "random, round 0", "random, round 1"),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("die_at", [None, 1, 2])
def test_random_tasks_go_beside_the_chosen_ones(tmp_path: Path, die_at: int | None) -> None:
    """Scored is once; an interrupted demo goes on, a finished one is left alone."""
    write_pool(make_pool(8), tmp_path / "pool.jsonl")
    runs = Runs(die_at)

    def demo() -> tuple[DemoResult, str]:
        console = Console(file=io.StringIO(), width=80)
        found = run_demo(
            demo_config(pool=tmp_path / "pool.jsonl"),
            tmp_path / "run",
            console=console,
            run_one=lambda folder, config, *, location, **more: runs(folder, config, **more),
        )
        assert isinstance(console.file, io.StringIO)
        return found, console.file.getvalue()

    if die_at is not None:
        with pytest.raises(KilledError):
            demo()
        runs.die_at = None
    result, said = demo()
    assert result.folder.path == tmp_path / "run"
    assert runs.count("score") == 1
    assert runs.count("train") == 2
    assert "the same with 3 random tasks" in said
    assert max(map(len, said.splitlines())) <= 80 + len(str(tmp_path))
    assert demo()[0].folder.path == tmp_path / "run-2"


def test_a_demo_that_goes_on_keeps_to_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub may answer today what it did not yesterday."""
    first, second = place_model(tmp_path / "first"), place_model(tmp_path / "second", 2)
    write_pool(make_pool(8), tmp_path / "pool.jsonl")
    seen: list[str] = []

    def begun(folder: RunFolder, config: RunConfig, *, location: str, **_: object) -> None:
        seen.append(location)
        begin(folder.path, Path(location), config)
        raise KilledError

    for found in (first, second):
        monkeypatch.setattr(
            "training.run.base_model.resolve_model", lambda name, found=found: found
        )
        with pytest.raises(KilledError):
            run_demo(
                demo_config(pool=tmp_path / "pool.jsonl"),
                tmp_path / "run",
                console=Console(file=io.StringIO()),
                run_one=begun,
            )
    assert seen == [str(first)] * 2


def test_the_state_of_a_new_run_says_what_is_next(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    open_run(folder, DEMO, make_pool(1), make_pool(1, "held"), live("base"))
    state = json.loads(folder.state.read_text())
    assert state["schema_version"] == 2
    assert (state["current_round"], state["current_step"]) == (0, "before")
    assert folder.config.read_text() == DEMO.to_toml()
