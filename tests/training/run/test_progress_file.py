"""How far a run is, on disk: told now and then, and never what ends a run."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from engine.files import read_json
from training.run.progress import Silent
from training.run.progress_file import ProgressFile, StepProgress
from training.run.state import RunStep


def test_what_cannot_be_written_ends_no_run(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    progress = ProgressFile(in_the_way / "progress.json", Silent())
    progress.begin(0, RunStep.TRAIN, 9, "steps")
    progress.advance(1)
    progress.end(0, RunStep.TRAIN, 1.0, "done")


def test_a_clock_that_is_set_back_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = ProgressFile(tmp_path / "progress.json", Silent())
    progress.begin(0, RunStep.TRAIN, 9, "steps")
    now, later = time.time() - 3600, time.monotonic() + 1
    monkeypatch.setattr(time, "time", lambda: now)
    monkeypatch.setattr(time, "monotonic", lambda: later)
    progress.advance(5)
    assert read_json(tmp_path / "progress.json", StepProgress).done == 5
