"""The train step: from the selected tasks to the trainer's output folder."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from engine.prompts import PromptBuilder
from engine.tasks import Pool
from training.config import RunConfig
from training.records import RunFolder, write_json, write_parquet
from training.rows import build_rows, choose_probes
from training.summary import RowsSummary
from training.trainer import TrainJob, TrainProgress, TrainResult


class Train(Protocol):
    """What the loop needs of `training.trainer.run_trainer`."""

    def __call__(
        self,
        job: TrainJob,
        *,
        job_file: Path,
        log_file: Path,
        on_progress: Callable[[TrainProgress], None],
    ) -> TrainResult:
        """Train and leave a checkpoint in `job.output`."""
        ...


def tasks_to_train(folder: RunFolder, config: RunConfig, round_index: int) -> tuple[str, ...]:
    """Ids of this round's tasks, or of all selected so far when training starts from the base."""
    if config.train.start_from == "base":
        return folder.trained_tasks(round_index + 1)
    return folder.round(round_index).read_selection().task_ids


def starting_model(folder: RunFolder, config: RunConfig, round_index: int, base_model: str) -> str:
    """What the training starts from: the base model or the last round's checkpoint."""
    if config.train.start_from == "base" or round_index == 0:
        return base_model
    return str(folder.round(round_index - 1).checkpoint)


def fine_tune(
    folder: RunFolder,
    config: RunConfig,
    round_index: int,
    *,
    pool: Pool,
    builder: PromptBuilder,
    base_model: str,
    train: Train,
    on_progress: Callable[[TrainProgress], None],
) -> TrainResult:
    """Write rows and job of a round, and run the trainer on them.

    Raises:
        InputError: If a task has no usable row.
        TrainingError: If the trainer fails.
    """
    ids = tasks_to_train(folder, config, round_index)
    rows = build_rows(pool.subset(ids), builder, config)
    work = folder.round(round_index).training
    work.mkdir(parents=True, exist_ok=True)
    for stale in work.glob("output-*"):
        shutil.rmtree(stale)
    write_parquet(work / "rows.parquet", rows.frame)
    summary = RowsSummary(
        tasks=ids, rows=rows.frame.height, tokens=rows.n_tokens, too_long=rows.too_long
    )
    write_json(work / "rows.json", summary.model_dump(mode="json"))
    job = TrainJob(
        model=starting_model(folder, config, round_index, base_model),
        trust_remote_code=config.model.trust_remote_code,
        config=config.train,
        rows=work / "rows.parquet",
        probes=choose_probes(rows.frame),
        # A folder per attempt: a trainer left over from a killed run writes elsewhere.
        output=work / f"output-{secrets.token_hex(4)}",
        progress=work / "progress.jsonl",
        result=work / "result.json",
    )
    return train(
        job,
        job_file=work / "job.json",
        log_file=work / "trainer.log",
        on_progress=on_progress,
    )
