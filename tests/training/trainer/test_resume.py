"""Which checkpoint of an interrupted training is gone on from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from engine.errors import TrainingError
from engine.protocol.completions import TokenPair
from training.config.run_config import TrainConfig
from training.trainer.resume import (
    CheckpointMarker,
    check_start,
    fingerprint,
    mark_checkpoint,
    newest_checkpoint,
    remove_attempts,
    remove_older,
    start_of,
    with_best,
)
from training.trainer.trainer_process import TrainJob


def make_checkpoint(work: Path, attempt: str, step: int, of: str | None = "a") -> Path:
    folder = work / f"attempt-{attempt}" / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    if of is not None:
        mark_checkpoint(folder, CheckpointMarker(fingerprint=of, step=step, seconds=1.0))
    return folder


def test_the_furthest_whole_checkpoint_of_the_same_training_counts(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path, "a") is None
    make_checkpoint(tmp_path, "0", 8)
    best = make_checkpoint(tmp_path, "1", 12)
    make_checkpoint(tmp_path, "1", 16, of=None)  # cut off while it was written
    make_checkpoint(tmp_path, "2", 20, of="b")  # of another training
    assert newest_checkpoint(tmp_path, "a") == best
    (tmp_path / "attempt-1" / "checkpoint-12" / "jostle.json").write_text('{"step"')
    found = newest_checkpoint(tmp_path, "a")
    assert found is not None
    assert found.name == "checkpoint-8"


def test_a_checkpoint_knows_its_best_one_where_the_run_is_now(tmp_path: Path) -> None:
    """transformers names it by an absolute path, and forgets one that is not there."""
    work = tmp_path / "work"
    best = make_checkpoint(work, "0", 4)
    newest = make_checkpoint(work, "1", 8)
    log = {"log_history": [{"grad_norm": float("nan")}], "best_global_step": 4}
    (newest / "trainer_state.json").write_text(
        json.dumps(log | {"best_model_checkpoint": str(best)})
    )
    assert newest_checkpoint(work, "a") == newest
    work.rename(tmp_path / "moved")
    found = newest_checkpoint(tmp_path / "moved", "a")
    assert found == tmp_path / "moved" / "attempt-1" / "checkpoint-8"
    state = json.loads((found / "trainer_state.json").read_text())
    assert state["best_model_checkpoint"] == str(tmp_path / "moved" / "attempt-0" / "checkpoint-4")
    assert state["best_global_step"] == 4
    best = make_checkpoint(tmp_path / "moved", "2", 6)
    shutil.rmtree(tmp_path / "moved" / "attempt-0")
    assert newest_checkpoint(tmp_path / "moved", "a") == best, "the furthest has lost its best one"


def test_older_checkpoints_go_but_the_best(tmp_path: Path) -> None:
    for step in (4, 8, 12):
        make_checkpoint(tmp_path, "1", step)
    best, newest = (tmp_path / "attempt-1" / f"checkpoint-{step}" for step in (4, 12))
    remove_older(newest, str(best))
    assert {each.name for each in newest.parent.iterdir()} == {best.name, newest.name}
    remove_older(newest, None)
    assert [each.name for each in newest.parent.iterdir()] == [newest.name]


def test_of_all_attempts_what_is_gone_on_from_stays_and_the_best(tmp_path: Path) -> None:
    best = make_checkpoint(tmp_path, "0", 8)
    make_checkpoint(tmp_path, "0", 12)
    make_checkpoint(tmp_path, "1", 16, of=None)
    newest = make_checkpoint(tmp_path, "2", 20)
    make_checkpoint(tmp_path, "2", 24, of=None)
    (newest / "trainer_state.json").write_text(json.dumps({"best_model_checkpoint": str(best)}))
    remove_attempts(tmp_path, keep=newest)
    assert set(tmp_path.glob("*/*")) == {best, newest}
    first = make_checkpoint(tmp_path, "3", 30)
    remove_older(first, str(first), with_best(newest))
    assert set(tmp_path.glob("*/*")) == {first}
    remove_attempts(tmp_path)
    assert not list(tmp_path.iterdir())


def make_job(tmp_path: Path, model: str) -> TrainJob:
    return TrainJob(
        model=model,
        start=start_of(model),
        config=TrainConfig(),
        rows=tmp_path / "rows",
        attempt=tmp_path / "attempt-0",
        probes=(TokenPair(prompt_token_ids=(1,), completion_token_ids=(2,)),),
        output=tmp_path / "output",
        progress=tmp_path / "progress",
        result=tmp_path / "result",
    )


def test_the_fingerprint_holds_all_that_decides_the_outcome(tmp_path: Path) -> None:
    (tmp_path / "rows").write_bytes(b"1")
    job = make_job(tmp_path, "m")
    first = fingerprint(job)
    assert fingerprint(job.model_copy(update={"attempt": tmp_path / "attempt-1"})) == first
    assert fingerprint(job.model_copy(update={"model": "n"})) == first, "it was moved"
    assert fingerprint(job.model_copy(update={"model": "n", "start": None})) != first
    assert fingerprint(job.model_copy(update={"start": "another commit"})) != first
    assert fingerprint(job.model_copy(update={"config": TrainConfig(seed=1)})) != first
    pieces = TrainConfig(batch_size=2, gradient_accumulation_steps=4, gradient_checkpointing=True)
    assert fingerprint(job.model_copy(update={"config": pieces})) == first
    (tmp_path / "rows").write_bytes(b"2")
    assert fingerprint(job) != first


def test_a_start_is_told_by_what_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.bin").write_bytes(b"1")
    job = make_job(tmp_path, str(model))
    check_start(job)
    (model / "model.bin").write_bytes(b"2")
    assert start_of(str(model)) != job.start
    with pytest.raises(TrainingError, match="was changed just before the training"):
        check_start(job)
    check_start(job.model_copy(update={"start": None}))
    # A model of the hub by its commit, whether its weights have been downloaded yet or not.
    monkeypatch.setattr("training.trainer.resume.local_folder", lambda model: tmp_path / "c0ffee")
    assert start_of("org/model") == "c0ffee"
