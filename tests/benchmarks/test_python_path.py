"""The V2 path of scoring, from tasks to rows, on a worker that makes its numbers up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.long
@pytest.mark.parametrize("way", [[], ["--stock"], ["--tails"]])
def test_every_score_is_what_the_worker_made_up(way: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.python_path", "--tasks=2", "--turns=1", *way]
    command += ["--results", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "220 pairs" in done.stdout
