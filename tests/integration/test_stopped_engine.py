"""A run whose engine is stopped while the trainer works: `engine.while_training = "stop"`."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from engine.process.engine_process import EngineProcess
from engine.tasks import Pool
from engine.weights.manifest import read_manifest
from tests.integration.processes import MARK_VARIABLE, marked
from tests.integration.test_other_models import MODELS, make_config, make_folder, make_task
from training.commands import launch
from training.config.run_config import RunConfig
from training.report.display import RichProgress
from training.run.run_folder import RunFolder
from training.run.run_pools import Pools
from training.trainer.trainer_process import TrainJob, TrainResult, run_trainer

pytestmark = [pytest.mark.integration, pytest.mark.long]


def test_nothing_of_the_engine_is_there_while_the_trainer_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = MODELS["penalty"]
    make_folder(model, tmp_path / "model")
    given = make_config(model, tmp_path / "model", "unused").model_dump(mode="json")
    given["engine"] = {"while_training": "stop", "flags": ["--enforce-eager"]}
    config = RunConfig.model_validate(given)
    monkeypatch.setenv(MARK_VARIABLE, tmp_path.name)
    starts: list[float] = []
    beside: list[set[int]] = []
    wait_ready = EngineProcess.wait_ready

    def wait(process: EngineProcess, *args: Any, **options: Any) -> None:
        began = time.monotonic()
        wait_ready(process, *args, **options)
        starts.append(time.monotonic() - began)

    def train(job: TrainJob, **options: Any) -> TrainResult:
        beside.append(set(marked(tmp_path.name)))
        return run_trainer(job, **options)

    monkeypatch.setattr(EngineProcess, "wait_ready", wait)
    monkeypatch.setattr(launch, "run_trainer", train)
    tasks = [make_task(f"task-{number}", model.end) for number in range(3)]
    pools = Pools(Pool(tasks), Pool([make_task("held-out", model.end)]), "made here")
    folder = RunFolder(tmp_path / "run")
    with RichProgress(Console(file=io.StringIO())) as progress:
        launch.run_config(folder, config, pools, progress, location=str(tmp_path / "model"))
    print(f"engine starts: {[round(seconds, 1) for seconds in starts]} s")
    assert beside == [set()], "trained once, and no process of the engine was left"
    assert len(starts) == 2
    version = read_manifest(folder.round(0).checkpoint).version
    metrics = json.loads(folder.round(0).metrics.read_text())
    assert metrics["weights_version"] == version, "the second engine has loaded them"
    assert not marked(tmp_path.name)
