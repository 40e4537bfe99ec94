"""What a run will take, told before anything is started."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.errors import InputError
from engine.files import nearest_there
from engine.pools.estimate import SAMPLE_TASKS, Rate, TaskSample, estimate
from engine.process.gpu_memory import visible_gpus
from engine.prompts import PromptBuilder
from engine.questions.question_registry import find_question
from engine.tasks import Record, Task
from engine.weights.models import local_folder
from training.config.run_config import RunConfig
from training.run.device_plan import count_weights
from training.run.round_races import RoundRaces
from training.run.run_pools import Pools
from training.trainer.training_rows import build_rows

TRAIN_PASSES = 3.0
"""A training step costs a forward pass and a backward pass of twice its cost."""

_BYTES_PER_PAIR = 250  # a pair in the journal, in JSON, and in pairs.parquet; a sample likewise


class RoundPlan(Record):
    """What one round takes.

    Attributes:
        name: `initial`, `round 0`, ...
        tasks: Tasks scored.
        pairs: Pairs scored; in a race about those that the budget pays for.
        samples: Outputs sampled.
        score_tokens: Tokens that the engine computes for these pairs and samples, those that its
            prefix cache supplies left out: estimated from a few tasks, a sample being taken to cost
            what a pair costs; or the budget of a race.
        train_rows: Rows of one epoch, at most.
        train_tokens: Tokens over all epochs, estimated from a sample of tasks.
        evaluate_prompts: Prompts answered.
    """

    name: str
    tasks: int
    pairs: int
    samples: int
    score_tokens: int
    train_rows: int
    train_tokens: int
    evaluate_prompts: int


class RunPlan(Record):
    """What a run takes.

    Attributes:
        rounds: In order.
        sampled_tasks: Tasks that the estimates rest on.
        seconds: Time of scoring and training together, without starts of engine and trainer; none
            without a rate. Reckoned with computed tokens: a trained one costs three times a scored
            one.
        disk_bytes: What the run folder grows to, at most; none where no safetensors file of the
            model is here.
        free_bytes: What the file system has left.
    """

    rounds: tuple[RoundPlan, ...]
    sampled_tasks: int
    seconds: float | None
    disk_bytes: int | None
    free_bytes: int


def plan_run(
    config: RunConfig,
    pools: Pools,
    builder: PromptBuilder,
    races: RoundRaces | None = None,
    *,
    location: str,
    run_dir: Path,
    rate: Rate | None = None,
) -> RunPlan:
    """Count and estimate; nothing is started and nothing written.

    Raises:
        InputError: If no sampled task has a row short enough to train on.
    """
    size = _scoring_size(config, pools, builder)
    rows, tokens = _training_size(config, pools, builder)
    prompts = sum(
        min(len(task.instances), config.evaluate.instances_per_task) for task in pools.held_out
    )
    rounds: list[RoundPlan] = []
    left = len(pools.pool) - config.train.validation_tasks
    trained = 0
    for index in range(config.total_rounds):
        initial = config.initial.n_tasks > 0 and index == 0
        new = config.initial.n_tasks if initial else config.select.n_tasks
        trained = trained + new if config.train.start_from == "base" else new
        scored = 0 if initial else left
        n_pairs, n_samples = scored * size.pairs, scored * size.samples
        score_tokens = (n_pairs + n_samples) * size.computed_per_pair
        if races is not None and scored:
            n_pairs, score_tokens = races.expected_pairs(scored), races.config.budget
        left -= new
        rounds.append(
            RoundPlan(
                name=f"round {index}" + (" (initial)" if initial else ""),
                tasks=scored,
                pairs=round(n_pairs),
                samples=round(n_samples),
                score_tokens=round(score_tokens),
                train_rows=round(trained * rows),
                train_tokens=round(trained * rows * tokens * config.train.epochs),
                evaluate_prompts=prompts,
            )
        )
    seconds = None
    if rate is not None:
        tokens_per_second = rate.pairs_per_second * size.computed_per_pair
        work = sum(each.score_tokens + TRAIN_PASSES * each.train_tokens for each in rounds)
        seconds = work / tokens_per_second
    return RunPlan(
        rounds=tuple(rounds),
        sampled_tasks=size.sampled_tasks,
        seconds=seconds,
        disk_bytes=_disk_bytes(config, rounds, location),
        free_bytes=shutil.disk_usage(nearest_there(run_dir.resolve())).free,
    )


@dataclass(frozen=True)
class _ScoringSize:
    """What the design of `score` takes: means over tasks, and computed tokens of a pair."""

    pairs: float
    samples: float
    computed_per_pair: float
    sampled_tasks: int


def _scoring_size(config: RunConfig, pools: Pools, builder: PromptBuilder) -> _ScoringSize:
    design, n_tasks = config.score, len(pools.pool)
    sample = TaskSample(design)
    question = find_question(design)
    n_measured = asked_pairs = samples = 0
    for task in pools.pool:
        sample.add(task)
        n_measured += min(len(task.instances), design.n_instances)
        if question:
            asked = question.n_asked(task, design)
            asked_pairs, samples = asked_pairs + asked.pairs, samples + asked.samples
    one = estimate(n_measured, sample.tasks, design, builder)
    if one.tokens_per_pair is None or one.reusable_share is None:
        problem = f"none of {one.sampled_tasks} sampled tasks fits the context or the design"
        raise InputError(problem, field="score")
    return _ScoringSize(
        pairs=(one.pairs + asked_pairs) / n_tasks,
        samples=samples / n_tasks,
        computed_per_pair=one.tokens_per_pair * (1 - one.reusable_share),
        sampled_tasks=one.sampled_tasks,
    )


def _training_size(config: RunConfig, pools: Pools, builder: PromptBuilder) -> tuple[float, float]:
    """Mean rows per task, and mean tokens per row, of evenly spaced tasks of the pool."""
    step = max(1, len(pools.pool) // SAMPLE_TASKS)
    sampled: Sequence[Task] = list(pools.pool)[::step]
    built = build_rows(sampled, builder, config)
    return built.frame.height / len(sampled), built.n_tokens / built.frame.height


def _disk_bytes(config: RunConfig, rounds: Sequence[RoundPlan], location: str) -> int | None:
    """Checkpoints that stay, one more while it is written, the trainer's own, and the records."""
    weights = count_weights(local_folder(location))
    if weights is None:
        return None
    train = config.train
    half = train.precision == "bfloat16" or (train.precision == "auto" and visible_gpus())
    kept = config.total_rounds
    if config.checkpoints.keep_last is not None:
        kept = min(kept, config.checkpoints.keep_last + config.checkpoints.keep_best)
    # A new one is written beside the old one, and with validation beside the best one as well.
    resumable = 3 if train.validation_tasks else 2 if train.checkpoint_steps is not None else 0
    # An adapter is small beside the weights it belongs to. Of these, float32 and AdamW's moments.
    trainer = 0 if train.lora is not None else resumable * 3 * 4 * weights
    published = 0 if train.publish == "adapter" else (2 if half else 4) * weights * (kept + 1)
    records = _BYTES_PER_PAIR * sum(each.pairs + each.samples for each in rounds)
    return published + trainer + records
