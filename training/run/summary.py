"""What a run came to: the records of its rounds, and the table a person reads."""

from __future__ import annotations

import polars as pl

from engine.files import read_json
from engine.protocol.api import Usage
from engine.tasks import Record
from training.evaluation.evaluator import Evaluation
from training.run.run_folder import RunFolder
from training.run.state import ROUND_STEPS, RunStep, read_state


class RowsSummary(Record):
    """What a fine-tuning was fed with; `training/rows.json`.

    Attributes:
        tasks: Tasks trained on.
        rows: Rows, one per instance.
        tokens: Tokens of one epoch, prompts and completions together.
        too_long: `task/instance` of rows left out for their length, also of the validation.
    """

    tasks: tuple[str, ...]
    rows: int
    tokens: int
    too_long: tuple[str, ...] = ()

    @property
    def left_out_in_words(self) -> str:
        """The end of a line about the training; empty where nothing was left out."""
        n = len(self.too_long)
        return f"; {n:,} too long and left out, see rows.json" if n else ""


class TrainingMetrics(Record):
    """How a fine-tuning went.

    Attributes:
        rows: What it was fed with.
        steps: Optimiser steps.
        seconds: Time of all steps, start-up excluded.
        seconds_per_step: The mean.
        first_loss: Mean loss per completion token in the first step.
        last_loss: The same in the last step.
    """

    rows: RowsSummary
    steps: int
    seconds: float
    seconds_per_step: float
    first_loss: float
    last_loss: float


class BeforeMetrics(Record):
    """Content of `before.json`: the base model on the held-out tasks."""

    weights_version: str
    evaluation: Evaluation


class RoundMetrics(Record):
    """Content of a round's `metrics.json`.

    Attributes:
        round: The round; 0 is the first.
        weights_version: The weights that were trained in this round and evaluated.
        selected: Ids of the tasks selected in this round.
        mean_prompt_uncertainty: Mean U over the tasks that could be measured, under the weights
            before this round's; none in an initial round, or where there is no such task.
        scoring: What the scoring cost.
        skipped: Ids of tasks at which the engine failed; they have no score.
        training: How the fine-tuning went.
        evaluation: The new weights on the held-out tasks.
    """

    round: int
    weights_version: str
    selected: tuple[str, ...]
    mean_prompt_uncertainty: float | None
    scoring: Usage
    skipped: tuple[str, ...] = ()
    training: TrainingMetrics
    evaluation: Evaluation


class SummaryRow(Record):
    """A line of the run's table.

    Attributes:
        name: `before`, or `round 0` and so on.
        tasks_trained: Tasks that these weights were trained on, beyond the base model.
        rouge_l: On the held-out tasks, in [0, 100].
        exact_match: On the held-out tasks, in [0, 100].
        steps: Optimiser steps; none before training.
        seconds_per_step: None before training.
        seconds: What all steps of the round took.
        weights_version: The weights.
    """

    name: str
    tasks_trained: int
    rouge_l: float
    exact_match: float
    steps: int | None
    seconds_per_step: float | None
    seconds: float
    weights_version: str


def mean_uncertainty(scores: pl.DataFrame) -> float | None:
    """Mean prompt uncertainty of the tasks that could be measured; none if there is no such one."""
    return _mean(scores["prompt_uncertainty"])


def _mean(column: pl.Series) -> float | None:
    known = column.drop_nulls()
    return float(known.to_numpy().mean()) if known.len() else None


def uncertainty_in_words(scores: pl.DataFrame) -> str:
    """How many tasks were scored, their mean prompt uncertainty, and how many have none."""
    mean = mean_uncertainty(scores)
    told = "" if mean is None else f", mean prompt uncertainty {mean:.4f}"
    floor = _mean(scores["noise_floor"]) if "noise_floor" in scores.columns else None
    if floor is not None:
        told += f" (noise floor {floor:.2g})"
    left = unmeasurable_in_words(scores["prompt_uncertainty"].null_count())
    return f"{scores.height:,} tasks{told}{left}"


def unmeasurable_in_words(n_tasks: int) -> str:
    """The end of a sentence that says how many tasks cannot be measured; empty if all can."""
    if not n_tasks:
        return ""
    return f"; {n_tasks:,} cannot be measured: no perturbed prompt differs from the original"


def skipped_in_words(n_tasks: int) -> str:
    """The end of a sentence that says at how many tasks the engine failed; empty if at none."""
    return f"; {n_tasks:,} skipped, see skipped.jsonl" if n_tasks else ""


def read_summary(folder: RunFolder) -> list[SummaryRow]:
    """The table of a run, as far as it has got.

    Raises:
        InputError: If a record is missing or broken.
    """
    state = read_state(folder)
    done = {(each.round, each.step): each.seconds for each in state.completed}
    rows: list[SummaryRow] = []
    trained = set[str]()
    if (0, RunStep.BEFORE) in done:
        before = read_json(folder.before, BeforeMetrics)
        rows.append(_row("before", before, done[0, RunStep.BEFORE], 0))
    for index in range(state.rounds):
        if (index, RunStep.EVALUATE) not in done:
            break
        metrics = read_json(folder.round(index).metrics, RoundMetrics)
        seconds = sum(done.get((index, step), 0.0) for step in ROUND_STEPS)
        trained |= set(metrics.selected)
        rows.append(_row(f"round {index}", metrics, seconds, len(trained), metrics.training))
    return rows


def _row(
    name: str,
    metrics: BeforeMetrics | RoundMetrics,
    seconds: float,
    n_trained: int,
    training: TrainingMetrics | None = None,
) -> SummaryRow:
    return SummaryRow(
        name=name,
        tasks_trained=n_trained,
        rouge_l=metrics.evaluation.overall.rouge_l,
        exact_match=metrics.evaluation.overall.exact_match,
        steps=training.steps if training else None,
        seconds_per_step=training.seconds_per_step if training else None,
        seconds=seconds,
        weights_version=metrics.weights_version,
    )
