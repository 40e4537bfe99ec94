"""Single steps of a run by themselves: train on named tasks, evaluate what an engine serves."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from engine.errors import InputError
from engine.files import write_bytes, write_json
from engine.pools.checks import LeftOut
from engine.pools.lazy import LazyPool
from engine.pools.writing import write_left_out
from engine.prompts import PromptBuilder
from engine.protocol.engine_calls import Engine
from engine.weights.manifest import Manifest
from engine.weights.models import resolve_model
from training.commands.launch import make_builder
from training.config.run_config import EngineConfig, EvaluateConfig, RunConfig
from training.evaluation.evaluator import Evaluation, Evaluator, build_evaluation_set
from training.report.display import RichProgress
from training.run.base_model import check_fit
from training.run.finetune import read_rows, train_rows
from training.run.live_engine import check_version
from training.run.run_pools import check_run, load_pools, take_validation
from training.selection.selection_record import read_task_ids
from training.tables.lock import RunLock
from training.trainer.checkpoint import publish
from training.trainer.trainer_process import run_trainer

EVALUATION_FILES = ("evaluation.json", "outputs.jsonl", "skipped.jsonl")
"""What `evaluate_engine` writes."""


class WeightsEvaluation(Evaluation):
    """Content of `evaluation.json`.

    Attributes:
        weights_version: Of the weights that answered.
    """

    weights_version: str


def train_on(
    config: RunConfig,
    tasks: Path,
    output: Path,
    progress: RichProgress,
) -> Manifest:
    """Fine-tune the config's model on some tasks of its pool, and publish the checkpoint.

    Started again, it goes on where it was interrupted.

    Args:
        config: Model, pool and `train` are used.
        tasks: A `selection.json`, or a file with one task id a line.
        output: Folder for `checkpoint/` and the trainer's files.
        progress: Where the training is shown, once it begins.

    Raises:
        InputError: If a task is not in the pool, or none has a usable row.
        TrainingError: If the trainer fails.
    """
    if (output / "checkpoint").exists():
        raise InputError("is there already; name another folder", file=output / "checkpoint")
    check_run(config, output)
    # No round is asked for, and none needs tasks of its own.
    initial = config.initial.model_copy(update={"n_tasks": 0})
    pools = load_pools(config.model_copy(update={"rounds": 0, "initial": initial}))
    pool, validation = take_validation(
        pools.pool, config.train.validation_tasks, config.evaluate.seed
    )
    ids = read_task_ids(tasks)
    if not ids:
        raise InputError("names no task", file=tasks)
    reasons = {task.id: "is held out (pool.held_out)" for task in pools.held_out}
    reasons |= {task.id: "is kept for validation (train.validation_tasks)" for task in validation}
    known = {task.id for task in pool}
    for task_id in ids:
        if task_id not in known:
            problem = reasons.get(task_id, "the pool holds no such task to train on")
            raise InputError(problem, file=tasks, record=task_id)
    location = str(resolve_model(config.model.name))
    check_fit(config.model_copy(update={"engine": EngineConfig()}), location)
    with RunLock(output / "run.lock"), progress:
        write_left_out(output / "skipped.jsonl", pools.left_out)
        started = time.monotonic()
        progress.open("train", None, "steps")
        work = output / "training"
        result = train_rows(
            work,
            config,
            tasks=pool.subset(ids),
            validation=validation,
            builder=make_builder(location, config),
            model=location,
            train=run_trainer,
            on_progress=lambda seen: progress.advance(seen.step, seen.total or None, seen.detail),
        )
        summary = result.summary + read_rows(work).left_out_in_words
        progress.done("train", time.monotonic() - started, summary)
        return publish(result, output / "checkpoint", 0)


def evaluate_engine(
    engine: Engine,
    pool: LazyPool,
    config: EvaluateConfig,
    builder: PromptBuilder,
    output: Path | None = None,
    *,
    max_tasks: int | None = None,
    on_progress: Callable[[int, int, str], None] = lambda done, total, task: None,
) -> WeightsEvaluation:
    """Evaluate what an engine serves on a pool.

    Args:
        pool: The tasks. Where its `faults` is a `LeftOut`, what cannot be read or evaluated is left
            out and, with `output`, listed in `skipped.jsonl` there.
        output: Folder for `evaluation.json` and `outputs.jsonl`, the latter for `jostle judge`.
        max_tasks: The first so many tasks only.
        on_progress: Called with tasks done, tasks in all, and the last task's id.

    Raises:
        InputError: If the pool is faulty, or a task cannot be evaluated.
        EngineError: If the engine fails, or its weights are replaced meanwhile.
    """
    if isinstance(pool.faults, LeftOut):
        pool = pool.where(lambda task: build_evaluation_set([task], builder, config))
    try:
        asked = build_evaluation_set(list(islice(pool, max_tasks)), builder, config)
    except InputError as fault:
        raise fault.within(pool.source) from fault
    evaluator = Evaluator(asked, config.max_new_tokens)
    version = engine.weights().version
    for done, task_id in evaluator.run(engine):
        on_progress(done, evaluator.n_tasks, task_id)
    check_version(engine.weights().version, version, "the last of the evaluation")
    found = evaluator.result().model_dump()
    evaluation = WeightsEvaluation.model_validate(found | {"weights_version": version})
    if output is not None:
        write_json(output / EVALUATION_FILES[0], evaluation.model_dump(mode="json"))
        lines = b"".join(each.model_dump_json().encode() + b"\n" for each in evaluator.outputs)
        write_bytes(output / EVALUATION_FILES[1], lines)
        write_left_out(output / EVALUATION_FILES[2], pool.faults.found)
    return evaluation
