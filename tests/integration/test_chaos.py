"""The whole of it under SIGKILL: real engine, real trainer, bundled model, a tiny budget."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.training.chaos import run_with_kills
from tests.training.test_rounds import read_records

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(10_800)]

KILLS = int(os.environ.get("JOSTLE_KILLS", "20"))

CONFIG = """
rounds = 2
[model]
max_model_len = 512
[pool]
max_tasks = 6
max_held_out_tasks = 2
[score]
n_instances = 2
n_perturbations = 2
max_output_tokens = 8
[select]
n_tasks = 1
[train]
batch_size = 2
instances_per_task = 4
checkpoint_steps = 1
[evaluate]
instances_per_task = 2
max_new_tokens = 8
[checkpoints]
keep_last = 1
keep_best = false
"""


def test_a_run_killed_at_random_moments_ends_with_the_same_records(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(CONFIG)
    run = [sys.executable, "-m", "cli.main", "run", str(config), "--run-dir"]
    started = time.monotonic()
    subprocess.run([*run, str(tmp_path / "undisturbed")], check=True, timeout=1_200)
    took = time.monotonic() - started
    expected = read_records(tmp_path / "undisturbed")
    compared = 0

    def compare() -> None:
        nonlocal compared
        assert read_records(tmp_path / "run") == expected
        (tmp_path / "run").rename(tmp_path / f"done-{compared}")
        compared += 1

    done = run_with_kills(
        [*run, str(tmp_path / "run")],
        tmp_path / "log",
        kills=KILLS,
        longest_s=took,
        trainer_s=30.0,
        seed=0,
        new_run=compare,
    )
    compare()
    print(f"{dict(done)} killed, {compared} runs compared, {took:.1f} s undisturbed")
    assert done.total() == KILLS
