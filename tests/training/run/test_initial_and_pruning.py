"""The initial round of random tasks, validation tasks, and which checkpoints stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.files import read_json
from tests.training.fakes import FakeEngine, KilledError
from tests.training.run.test_rounds import CONFIG, make_run, read_records
from training.config.run_config import RunConfig
from training.run.pruning import PRUNED_MANIFEST
from training.run.run_folder import RunFolder
from training.run.run_pools import take_validation
from training.run.state import RunStep, plan
from training.run.summary import RoundMetrics, read_summary

INITIAL = RunConfig.model_validate(
    CONFIG.model_dump() | {"initial": {"n_tasks": 2}, "rounds": 2, "select": {"n_tasks": 1}}
)


def with_policy(config: RunConfig, **policy: object) -> RunConfig:
    return RunConfig.model_validate(config.model_dump() | {"checkpoints": policy})


def test_an_initial_round_trains_on_random_tasks_without_scoring(tmp_path: Path) -> None:
    engine = FakeEngine()
    make_run(tmp_path, engine, config=INITIAL).run()
    begun = [event for event in engine.events if event.startswith("begin")]
    assert begun == [f"begin {step} {index}" for index, step in plan(3, initial=True)]
    assert "begin score 0" not in begun
    folder = RunFolder(tmp_path)
    first = folder.round(0).read_selection()
    assert (first.strategy, len(first.tasks)) == ("random", 2)
    metrics = read_json(folder.round(0).metrics, RoundMetrics)
    assert metrics.mean_prompt_uncertainty is None
    assert metrics.scoring.pairs == 0
    assert [row.tasks_trained for row in read_summary(folder)] == [0, 2, 3, 4]
    scored = [event for event in engine.events if event.startswith("score")]
    assert [event.split()[1] for event in scored] == ["4", "3"]
    assert "under base" not in " ".join(scored)


@pytest.mark.slow
@pytest.mark.parametrize(("index", "step"), plan(3, initial=True))
def test_a_run_with_an_initial_round_killed_anywhere_ends_the_same(
    tmp_path: Path, index: int, step: RunStep
) -> None:
    make_run(tmp_path / "undisturbed", config=INITIAL).run()
    with pytest.raises(KilledError):
        make_run(tmp_path / "killed", config=INITIAL, die_at=("end", index, step)).run()
    make_run(tmp_path / "killed", config=INITIAL).run()
    assert read_records(tmp_path / "killed") == read_records(tmp_path / "undisturbed")


def test_validation_tasks_are_never_scored_or_trained_on(tmp_path: Path) -> None:
    train = CONFIG.train.model_copy(update={"validation_tasks": 2})
    engine = FakeEngine()
    run = make_run(tmp_path, engine, config=CONFIG.model_copy(update={"train": train}))
    run.run()
    assert "score 4 under base" in engine.events
    assert {task.id for task in run.validation}.isdisjoint(RunFolder(tmp_path).trained_tasks(2))
    again, _ = take_validation(run.pool, 0, 0)
    assert again.digest() == run.pool.digest()


def checkpoints(folder: Path) -> list[int]:
    return [each.index for each in RunFolder(folder).rounds() if each.checkpoint.is_dir()]


def test_all_checkpoints_stay_unless_told(tmp_path: Path) -> None:
    make_run(tmp_path, config=INITIAL).run()
    assert checkpoints(tmp_path) == [0, 1, 2]


def test_old_checkpoints_go_but_never_the_live_one(tmp_path: Path) -> None:
    config = with_policy(INITIAL, keep_last=1, keep_best=False)
    make_run(tmp_path, config=config).run()
    assert checkpoints(tmp_path) == [2]
    folder = RunFolder(tmp_path)
    assert (folder.round(0).path / PRUNED_MANIFEST).is_file()
    assert [row.name for row in read_summary(folder)] == ["before", "round 0", "round 1", "round 2"]


def test_the_best_checkpoint_stays(tmp_path: Path) -> None:
    make_run(tmp_path, config=with_policy(INITIAL, keep_last=1)).run()
    assert checkpoints(tmp_path) == [0, 2]  # all are equally good, so the first is the best


@pytest.mark.parametrize("step", [RunStep.PUBLISH, RunStep.RELOAD, RunStep.EVALUATE])
def test_the_last_good_checkpoint_stays_until_the_next_is_evaluated(
    tmp_path: Path, step: RunStep
) -> None:
    config = with_policy(INITIAL, keep_last=1, keep_best=False)
    with pytest.raises(KilledError):
        make_run(tmp_path, config=config, die_at=("begin", 1, step)).run()
    assert checkpoints(tmp_path) == ([0] if step == RunStep.PUBLISH else [0, 1])
