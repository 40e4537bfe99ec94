"""What the trainer process leaves when it is killed between two files."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.errors import TrainingError
from training.trainer.resume import mark_checkpoint, newest_checkpoint, read_marker


class KilledError(Exception):
    """Stands for the end of the process."""


def save(attempt: Path, writer: Any, step: int, epoch: float = 1.0) -> Path:
    checkpoint = attempt / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    state = SimpleNamespace(global_step=step, max_steps=12, epoch=epoch, best_model_checkpoint=None)
    writer.on_save(SimpleNamespace(output_dir=str(attempt), world_size=2), state, None)
    return checkpoint


def test_the_new_checkpoint_is_whole_before_the_old_one_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.trainer.sft_progress import ProgressWriter

    attempt = tmp_path / "attempt-0"
    writer = ProgressWriter(tmp_path / "progress.jsonl", "a")

    def kill(*_: Any) -> None:
        raise KilledError

    save(attempt, writer, 4)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", kill)
        with pytest.raises(KilledError):
            save(attempt, writer, 8)
    assert newest_checkpoint(tmp_path, "a") == attempt / "checkpoint-8"
    save(attempt, writer, 12)
    assert [each.name for each in attempt.iterdir()] == ["checkpoint-12"]


def test_the_end_within_an_epoch_is_not_gone_on_from(tmp_path: Path) -> None:
    """The trainer would train another step, and then see that it is done."""
    from training.trainer.sft_progress import ProgressWriter

    writer = ProgressWriter(tmp_path / "progress.jsonl", "a")
    earlier = save(tmp_path / "attempt-0", writer, 8, epoch=1.0)
    save(tmp_path / "attempt-0", writer, 12, epoch=1.5)
    assert newest_checkpoint(tmp_path, "a") == earlier


def test_as_many_processes_go_on_as_began(tmp_path: Path) -> None:
    from training.trainer.sft_progress import ProgressWriter

    writer = ProgressWriter(tmp_path / "progress.jsonl", "a")
    checkpoint = save(tmp_path / "attempt-0", writer, 8)
    marker = read_marker(checkpoint)
    assert marker is not None
    writer.go_on_from(checkpoint, 2)
    with pytest.raises(TrainingError, match=r"checkpoint-8 is of .* 2 processes, this one has 4"):
        writer.go_on_from(checkpoint, 4)
    mark_checkpoint(checkpoint, marker.model_copy(update={"processes": None}))  # an older version's
    writer.go_on_from(checkpoint, 4)
