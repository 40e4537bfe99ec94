"""An interrupted training goes on from its own newest checkpoint, and from nobody else's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.tasks import Pool
from tests.training.fakes import KilledError, fake_trainer, make_pool
from tests.training.run.test_rounds import BUILDER, CONFIG
from training.config.run_config import RunConfig
from training.run.finetune import train_rows
from training.trainer.resume import CheckpointMarker, fingerprint, mark_checkpoint
from training.trainer.trainer_process import TrainJob

POOL = make_pool(3)


def dying_trainer(steps: int) -> Callable[..., Any]:
    """Dies after a checkpoint at each of some steps."""

    def train(job: TrainJob, **_: Any) -> None:
        for step in range(1, steps + 1):
            checkpoint = job.attempt / f"checkpoint-{step}"
            checkpoint.mkdir(parents=True)
            marker = CheckpointMarker(fingerprint=fingerprint(job), step=step, seconds=1.0)
            mark_checkpoint(checkpoint, marker)
        raise KilledError

    return train


def attempt(work: Path, train: Callable[..., Any], tasks: Pool, config: RunConfig = CONFIG) -> None:
    train_rows(
        work,
        config,
        tasks=tasks,
        validation=Pool([]),
        builder=BUILDER,
        model="model",
        train=train,
        on_progress=lambda _: None,
    )


def resumed_from(work: Path, tasks: Pool, config: RunConfig = CONFIG) -> Path | None:
    """Where another attempt goes on from; it ends well."""
    jobs: list[TrainJob] = []

    def train(job: TrainJob, **options: Any) -> Any:
        jobs.append(job)
        assert job.resume_from is None or job.resume_from.is_dir(), "kept for as long as it takes"
        return fake_trainer([])(job, **options)

    attempt(work, train, tasks, config)
    assert not list(work.glob("attempt-*")), "nothing is left when it is done"
    return jobs[0].resume_from


@pytest.mark.parametrize("deaths", [(3,), (3, 0), (1, 2), (2, 1)])
def test_the_furthest_of_all_attempts_is_gone_on_from(
    deaths: tuple[int, ...], tmp_path: Path
) -> None:
    for steps in deaths:
        with pytest.raises(KilledError):
            attempt(tmp_path, dying_trainer(steps), POOL)
    found = resumed_from(tmp_path, POOL)
    assert found is not None
    assert found.name == f"checkpoint-{max(deaths)}"


def test_another_training_begins_anew(tmp_path: Path) -> None:
    other = CONFIG.model_copy(
        update={"train": CONFIG.train.model_copy(update={"learning_rate": 0.5})}
    )
    for tasks, config in ((make_pool(2), CONFIG), (POOL, other)):
        with pytest.raises(KilledError):
            attempt(tmp_path, dying_trainer(2), POOL)
        assert resumed_from(tmp_path, tasks, config) is None
