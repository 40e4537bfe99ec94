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
from tests.integration.conftest import Second
from tests.integration.processes import marked, wait_until_gone
from tests.integration.reference import Reference, published_change
from tests.integration.test_scoring_exact import CONFIG
from training.run.fleet import Fleet

pytestmark = [pytest.mark.integration, pytest.mark.slow]

TASKS = list(training_pool()[:16])
FEW = CONFIG.model_copy(update={"n_instances": 3, "n_perturbations": 3})


def test_one_of_two_engines_is_killed(
    server: EngineProcess,
    client: EngineClient,
    second: Second,
    base: Reference,
    weights_root: Path,
) -> None:
    processes = list(marked(second.mark))
    checkpoint, manifest, _ = published_change(base, weights_root, seed=0, scale=0.0)
    with EngineClient(second.engine.url, patience_s=0.0) as mortal:
        fleet = Fleet({server.url: client, second.engine.url: mortal})
        fleet.load_weights(checkpoint, manifest.version)
        scores: list[TaskScore] = []
        for score in fleet.score(TASKS, FEW):
            if not scores:
                for process in processes:
                    os.kill(process, signal.SIGKILL)
            scores.append(score)
    wait_until_gone(second.mark, processes)
    assert fleet.alive == [server.url], "the other one still had tasks when it was killed"
    assert Counter(score.task_id for score in scores) == Counter(task.id for task in TASKS)
    undisturbed = {score.task_id: score for score in client.score(TASKS, FEW)}
    for score in scores:
        expected = [pair.logprob for pair in undisturbed[score.task_id].pairs]
        assert [pair.logprob for pair in score.pairs] == pytest.approx(expected, abs=1e-4)
