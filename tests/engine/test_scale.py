"""Memory stays flat, however many tasks stream through client and scorer."""

from __future__ import annotations

import subprocess
import sys

import pytest


def score_many(n_tasks: int) -> tuple[float, float]:
    """Peak memory of client and of planning server, in MB, after scoring so many short tasks."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.engine.scale_client", str(n_tasks)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    scored, client, server = map(float, done.stdout.split())
    assert scored == n_tasks
    print(f"{n_tasks} tasks: client {client:.0f} MB, server {server:.0f} MB")
    return client, server


@pytest.mark.slow
def test_ten_times_the_tasks_need_no_more_memory() -> None:
    few, many = score_many(200), score_many(2_000)
    assert many[0] < few[0] + 20
    assert many[1] < few[1] + 20


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_52_000_tasks_in_less_than_a_gigabyte() -> None:
    client, server = score_many(52_000)
    assert client < 1_000
    assert server < 1_000
