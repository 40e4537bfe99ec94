"""Whose end ends the trainer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from training.trainer.child_process import PARENT_VARIABLE


@pytest.mark.parametrize("launched", [True, False])
def test_the_trainer_ends_with_its_run_or_with_its_launcher(
    launched: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.trainer import sft

    parents: list[int] = []
    monkeypatch.setattr(sft, "die_with", parents.append)
    monkeypatch.delenv(PARENT_VARIABLE, raising=False)
    if not launched:
        monkeypatch.setenv(PARENT_VARIABLE, "7")
    assert sft.main([str(tmp_path / "no-job.json")]) == 2
    assert parents == [os.getppid() if launched else 7]
