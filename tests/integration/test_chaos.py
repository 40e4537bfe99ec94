"""The whole of it under SIGKILL: real engine, real trainer, bundled model, a tiny budget."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.training.run.chaos import run_with_kills
from tests.training.run.test_rounds import read_records

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


def same(found: Any, expected: Any) -> bool:
    """Equal; numbers to 1e-5, since a step of the engine may hold other pairs than before."""
    if isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=1e-5, abs_tol=1e-5)
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[k], expected[k]) for k in found)
    if isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(same, found, expected))
    return bool(found == expected)


def test_a_run_killed_at_random_moments_ends_with_the_same_records(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(CONFIG)
    run = [sys.executable, "-m", "cli.main", "run", str(config), "--run-dir"]
    started = time.monotonic()
    subprocess.run([*run, str(tmp_path / "undisturbed")], check=True)
    took = time.monotonic() - started
    expected = read_records(tmp_path / "undisturbed")
    compared = 0

    def compare() -> None:
        nonlocal compared
        found = read_records(tmp_path / "run")
        assert found.keys() == expected.keys()
        for name in expected:
            assert same(found[name], expected[name]), name
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
