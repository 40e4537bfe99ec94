"""Two engines on loopback, one of them killed in the middle: every task is scored once."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from engine.client import EngineClient
from engine.pools.bundled import training_pool
from engine.process.engine_process import EngineProcess
from engine.protocol.api import TaskScore
from tests.integration.processes import MARK_VARIABLE, marked, wait_until_gone
from tests.integration.test_scoring_exact import CONFIG
from training.run.fleet import Fleet

pytestmark = [pytest.mark.integration, pytest.mark.slow]

TASKS = list(training_pool()[:16])


def test_one_of_two_engines_is_killed(
    server: EngineProcess,
    client: EngineClient,
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mark = tmp_path.name
    monkeypatch.setenv(MARK_VARIABLE, mark)
    with EngineProcess.start(
        str(model_folder), weights_root=None, log_file=tmp_path / "engine.log"
    ) as other:
        other.wait_ready(300)
        processes = list(marked(mark))
        with EngineClient(other.url, patience_s=0.0) as mortal:
            fleet = Fleet({server.url: client, other.url: mortal})
            scores: list[TaskScore] = []
            for score in fleet.score(TASKS, CONFIG):
                if not scores:
                    for process in processes:
                        os.kill(process, signal.SIGKILL)
                scores.append(score)
        wait_until_gone(mark, processes, 10)
    assert fleet.alive == [server.url], "the other one still had tasks when it was killed"
    assert Counter(score.task_id for score in scores) == Counter(task.id for task in TASKS)
    undisturbed = {score.task_id: score for score in client.score(TASKS, CONFIG)}
    for score in scores:
        expected = [pair.logprob for pair in undisturbed[score.task_id].pairs]
        assert [pair.logprob for pair in score.pairs] == pytest.approx(expected, abs=1e-4)
