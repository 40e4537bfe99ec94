"""What the trainer process leaves when it is killed between two files."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from training.trainer.resume import newest_checkpoint


class KilledError(Exception):
    """Stands for the end of the process."""


def test_the_new_checkpoint_is_whole_before_the_old_one_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.trainer.sft_progress import ProgressWriter

    attempt = tmp_path / "attempt-0"
    writer = ProgressWriter(tmp_path / "progress.jsonl", "a")

    def save(step: int) -> None:
        (attempt / f"checkpoint-{step}").mkdir(parents=True)
        state = SimpleNamespace(global_step=step, best_model_checkpoint=None)
        writer.on_save(SimpleNamespace(output_dir=str(attempt)), state, None)

    def kill(*_: Any) -> None:
        raise KilledError

    save(4)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", kill)
        with pytest.raises(KilledError):
            save(8)
    assert newest_checkpoint(tmp_path, "a") == attempt / "checkpoint-8"
    save(12)
    assert [each.name for each in attempt.iterdir()] == ["checkpoint-12"]
