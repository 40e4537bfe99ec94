"""The train step: from the selected tasks to the trainer's output folder."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

from engine.errors import InputError
from engine.files import read_json, write_json
from engine.prompts import PromptBuilder
from engine.tasks import Pool
from training.config.run_config import RunConfig
from training.run.run_folder import RunFolder
from training.run.summary import RowsSummary
from training.tables.table_files import write_parquet
from training.trainer.resume import (
    fingerprint,
    left_result,
    newest_checkpoint,
    remove_attempts,
    remove_outputs,
    start_of,
)
from training.trainer.trainer_process import TrainJob, TrainProgress, TrainResult
from training.trainer.training_rows import TrainingRows, build_rows, choose_probes

ROWS_FILE = "rows.json"

Train = Callable[..., TrainResult]
"""`training.trainer.trainer_process.run_trainer`, or what is called in its place."""


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
    validation: Pool,
    builder: PromptBuilder,
    base_model: str,
    train: Train,
    on_progress: Callable[[TrainProgress], None],
) -> TrainResult:
    """Write rows and job of a round, and run the trainer on them.

    A training that was interrupted goes on from its newest whole checkpoint, if it is the same
    training: same rows, same start, same config. One that has ended and is not published yet is
    not done again.

    Raises:
        InputError: If no task has a usable row.
        TrainingError: If the trainer fails.
    """
    ids = tasks_to_train(folder, config, round_index)
    return train_rows(
        folder.round(round_index).training,
        config,
        tasks=pool.subset(ids),
        validation=validation,
        builder=builder,
        model=starting_model(folder, config, round_index, base_model),
        train=train,
        on_progress=on_progress,
    )


def train_rows(
    work: Path,
    config: RunConfig,
    *,
    tasks: Pool,
    validation: Pool,
    builder: PromptBuilder,
    model: str,
    train: Train,
    on_progress: Callable[[TrainProgress], None],
) -> TrainResult:
    """The same for any tasks and any folder (`work`: rows, job, log and result).

    Args:
        validation: Tasks to choose the best weights by; none: the last weights.
        model: Folder or hub id to start from.

    Raises:
        InputError: If no task has a usable row.
        TrainingError: If the trainer fails.
    """
    rows = rows_of(tasks, builder, config)
    work.mkdir(parents=True, exist_ok=True)
    left = left_result(work)
    remove_outputs(work, keep=left.output if left else None)  # first: the disk may be full
    too_long = rows.too_long
    if len(validation):
        chosen = rows_of(validation, builder, config, config.train.validation_instances)
        write_parquet(work / "validation.parquet", chosen.frame)
        too_long += chosen.too_long
    _write_rows(work, rows, tasks, too_long)
    # Folders per attempt: a trainer left over from a killed run writes elsewhere.
    attempt = secrets.token_hex(4)
    job = TrainJob(
        model=model,
        start=start_of(model),
        trust_remote_code=config.model.trust_remote_code,
        config=config.train,
        rows=work / "rows.parquet",
        validation_rows=work / "validation.parquet" if len(validation) else None,
        attempt=work / f"attempt-{attempt}",
        probes=choose_probes(rows.frame),
        output=work / f"output-{attempt}",
        progress=work / "progress.jsonl",
        result=work / "result.json",
    )
    if left is not None and left.fingerprint == fingerprint(job):
        remove_attempts(work)
        return left
    remove_outputs(work)
    resume_from = newest_checkpoint(work, fingerprint(job))
    remove_attempts(work, keep=resume_from)
    result = train(
        job.model_copy(update={"resume_from": resume_from}),
        job_file=work / "job.json",
        log_file=work / "trainer.log",
        on_progress=on_progress,
    )
    remove_attempts(work)
    return result


def _write_rows(work: Path, rows: TrainingRows, tasks: Pool, too_long: tuple[str, ...]) -> None:
    write_parquet(work / "rows.parquet", rows.frame)
    summary = RowsSummary(
        tasks=tuple(task.id for task in tasks),
        rows=rows.frame.height,
        tokens=rows.n_tokens,
        too_long=too_long,
    )
    write_json(work / ROWS_FILE, summary.model_dump(mode="json"))


def read_rows(work: Path) -> RowsSummary:
    """What the training in a folder was fed with.

    Raises:
        InputError: If that is missing or broken.
    """
    return read_json(work / ROWS_FILE, RowsSummary)


def rows_of(
    pool: Pool, builder: PromptBuilder, config: RunConfig, n_instances: int | None = None
) -> TrainingRows:
    """The rows of a pool's tasks; see `build_rows`."""
    try:
        return build_rows(pool, builder, config, n_instances)
    except InputError as fault:
        raise fault.within(pool.source) from fault
