"""An interrupted training goes on from its own newest checkpoint, and from nobody else's; one that
has ended is not done again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from engine.errors import InputError
from engine.files import cannot_write
from engine.tasks import Pool
from tests.training.fakes import FakeEngine, KilledError, fake_trainer, make_pool
from tests.training.run.test_rounds import BUILDER, CONFIG, make_run, read_records
from training.config.run_config import RunConfig
from training.run.finetune import train_rows
from training.run.run_folder import RunFolder
from training.run.state import RunStep, save_state
from training.trainer.resume import CheckpointMarker, fingerprint, mark_checkpoint
from training.trainer.trainer_process import TrainJob, TrainResult

POOL = make_pool(3)


def dying_trainer(steps: int) -> Callable[..., Any]:
    """Dies after a checkpoint at each of some steps."""

    def train(job: TrainJob, **_: Any) -> None:
        for step in range(1, steps + 1):
            checkpoint = job.attempt / f"checkpoint-{step}"
            checkpoint.mkdir(parents=True)
            marker = CheckpointMarker(fingerprint=fingerprint(job), step=step, seconds=1.0)
            mark_checkpoint(checkpoint, marker)
        raise KilledError

    return train


def attempt(
    work: Path,
    train: Callable[..., Any],
    tasks: Pool,
    config: RunConfig = CONFIG,
    model: str = "model",
) -> TrainResult:
    return train_rows(
        work,
        config,
        tasks=tasks,
        validation=Pool([]),
        builder=BUILDER,
        model=model,
        train=train,
        on_progress=lambda _: None,
    )


def resumed_from(
    work: Path, tasks: Pool, config: RunConfig = CONFIG, model: str = "model"
) -> Path | None:
    """Where another attempt goes on from; it ends well."""
    jobs: list[TrainJob] = []

    def train(job: TrainJob, **options: Any) -> Any:
        jobs.append(job)
        assert job.resume_from is None or job.resume_from.is_dir(), "kept for as long as it takes"
        return fake_trainer([])(job, **options)

    attempt(work, train, tasks, config, model)
    assert not list(work.glob("attempt-*")), "nothing is left when it is done"
    return jobs[0].resume_from


@pytest.mark.parametrize("deaths", [(3,), (3, 0), (1, 2), (2, 1)])
def test_the_furthest_of_all_attempts_is_gone_on_from(
    deaths: tuple[int, ...], tmp_path: Path
) -> None:
    for steps in deaths:
        with pytest.raises(KilledError):
            attempt(tmp_path, dying_trainer(steps), POOL)
    found = resumed_from(tmp_path, POOL)
    assert found is not None
    assert found.name == f"checkpoint-{max(deaths)}"


def test_another_training_begins_anew(tmp_path: Path) -> None:
    other = CONFIG.model_copy(
        update={"train": CONFIG.train.model_copy(update={"learning_rate": 0.5})}
    )
    for tasks, config in ((make_pool(2), CONFIG), (POOL, other)):
        with pytest.raises(KilledError):
            attempt(tmp_path, dying_trainer(2), POOL)
        assert resumed_from(tmp_path, tasks, config) is None


def ended_trainer(events: list[str]) -> Callable[..., Any]:
    """Does its work; what comes after it in the same step does not end."""

    def train(job: TrainJob, **options: Any) -> None:
        checkpoint = job.attempt / "checkpoint-1"
        checkpoint.mkdir(parents=True)
        mark_checkpoint(
            checkpoint, CheckpointMarker(fingerprint=fingerprint(job), step=1, seconds=1.0)
        )
        fake_trainer(events)(job, **options)
        raise KilledError

    return train


def test_a_training_that_has_ended_is_not_done_again(tmp_path: Path) -> None:
    events: list[str] = []
    with pytest.raises(KilledError):
        attempt(tmp_path, ended_trainer(events), POOL)
    (tmp_path / "output-0000").mkdir()  # of an earlier attempt
    (tmp_path / ".output-0001").mkdir()  # of a removal that was cut off
    result = attempt(tmp_path, fake_trainer(events), POOL)
    assert events == ["train from model"]
    assert (result.output / "model.safetensors").is_file()
    assert attempt(tmp_path, fake_trainer(events), POOL) == result
    assert len(events) == 1
    assert [*tmp_path.glob("*put-*")] == [result.output]
    assert not list(tmp_path.glob("attempt-*"))


@pytest.mark.parametrize("why", ["rows", "config", "gone", "copied", "older"])
def test_a_result_that_is_not_of_this_training_is_never_used(tmp_path: Path, why: str) -> None:
    events: list[str] = []
    work = tmp_path / "work"
    result = attempt(work, fake_trainer(events), POOL)
    tasks, config = POOL, CONFIG
    if why == "rows":
        tasks = make_pool(2)
    elif why == "config":
        train = CONFIG.train.model_copy(update={"learning_rate": 0.5})
        config = CONFIG.model_copy(update={"train": train})
    elif why == "gone":
        shutil.rmtree(result.output)
    elif why == "copied":
        shutil.copytree(work, tmp_path / "copy")
        work = tmp_path / "copy"
    else:  # written before results had a fingerprint
        old = result.model_dump_json(exclude={"fingerprint"})
        (work / "result.json").write_text(old)
    again = attempt(work, fake_trainer(events), tasks, config)
    assert len(events) == 2
    assert again.output != result.output
    assert [*work.glob("output-*")] == [again.output]
    assert result.output.is_dir() == (why == "copied")


def test_the_result_of_a_run_that_was_moved_is_used(tmp_path: Path) -> None:
    events: list[str] = []
    attempt(tmp_path / "work", fake_trainer(events), POOL)
    (tmp_path / "work").rename(tmp_path / "moved")
    result = attempt(tmp_path / "moved", fake_trainer(events), POOL)
    assert len(events) == 1
    assert result.output.parent == tmp_path / "moved"
    assert result.output.is_dir()


@pytest.mark.parametrize("way", ["moved", "copied"])
def test_a_run_that_was_taken_elsewhere_publishes_its_own(tmp_path: Path, way: str) -> None:
    with pytest.raises(KilledError):
        make_run(tmp_path / "run", die_at=("begin", 0, RunStep.PUBLISH)).run()
    take: Any = shutil.copytree if way == "copied" else shutil.move
    take(tmp_path / "run", tmp_path / "elsewhere")
    make_run(tmp_path / "elsewhere").run()
    assert len(list(tmp_path.glob("run/round-00/training/output-*"))) == (way == "copied")
    if way == "copied":
        make_run(tmp_path / "run").run()
        assert read_records(tmp_path / "run") == read_records(tmp_path / "elsewhere")


def test_a_training_of_a_model_that_was_replaced_begins_anew(tmp_path: Path) -> None:
    model, events = tmp_path / "model", list[str]()
    model.mkdir()

    def place(value: int) -> None:
        save_file({"w": np.full(8, value, np.uint8)}, model / "model.safetensors")

    place(1)
    with pytest.raises(KilledError):
        attempt(tmp_path, dying_trainer(2), POOL, model=str(model))
    place(2)
    assert resumed_from(tmp_path, POOL, model=str(model)) is None
    place(3)
    attempt(tmp_path, fake_trainer(events), POOL, model=str(model))
    assert events == ["train from model"], "what has ended began with the other one"


def test_a_full_disk_after_the_training_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path / "undisturbed").run()
    engine = FakeEngine()
    run = make_run(tmp_path / "full", engine)

    def refuse(folder: RunFolder, state: Any) -> None:
        if state.completed[-1].step == RunStep.TRAIN:
            raise cannot_write(folder.state, OSError(28, "No space left on device"))
        save_state(folder, state)

    with monkeypatch.context() as full:
        full.setattr("training.run.rounds.save_state", refuse)
        with pytest.raises(InputError, match="nothing is lost"):
            run.run()
    again = FakeEngine()
    make_run(tmp_path / "full", again).run()
    trained = [event for event in engine.events + again.events if event.startswith("train")]
    assert len(trained) == 2, "one each round"
    assert read_records(tmp_path / "full") == read_records(tmp_path / "undisturbed")
