"""Training rows and probe pairs, as the exact token ids that scoring uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from engine.errors import InputError
from engine.prompts import PromptBuilder
from engine.protocol.completions import TokenPair
from engine.tasks import Task
from engine.weights.probing import crossed
from training.config.run_config import RunConfig

ROW_COLUMNS: dict[str, Any] = {
    "task_id": pl.String,
    "instance_id": pl.String,
    "prompt_token_ids": pl.List(pl.Int64),
    "completion_token_ids": pl.List(pl.Int64),
}
"""Columns of `rows.parquet`, which the trainer reads."""


@dataclass(frozen=True)
class TrainingRows:
    """What a fine-tuning is fed with.

    Attributes:
        frame: One row per instance, the columns of `ROW_COLUMNS`.
        too_long: `task/instance` of the rows left out for their length.
    """

    frame: pl.DataFrame
    too_long: tuple[str, ...]

    @property
    def n_tokens(self) -> int:
        """Tokens of one epoch, prompts and completions together."""
        lengths = self.frame["prompt_token_ids"].list.len() + (
            self.frame["completion_token_ids"].list.len()
        )
        return int(lengths.sum())


def build_rows(
    tasks: Sequence[Task],
    builder: PromptBuilder,
    config: RunConfig,
    instances_per_task: int | None = None,
) -> TrainingRows:
    """Rows of the tasks: a seeded sample of instances that have a gold output, the first of them.

    The prompt is laid out exactly as in scoring, with the same number of examples. Rows that are
    longer than `config.max_row_length`, that fill the context to its last token, which an engine
    could not score, or whose prompt alone is too long are left out and reported.

    Args:
        instances_per_task: Instances of each task, at most; `config.train` says it when unset.

    Raises:
        InputError: If a task has no instance with a gold output, or no row at all is short enough.
    """
    rows: list[dict[str, object]] = []
    too_long: list[str] = []
    longest = min(config.max_row_length, config.model.max_model_len - 1)
    room = config.score.max_output_tokens
    for task in map(builder.clean, tasks):
        with_gold = task.with_instances(each for each in task.instances if each.outputs)
        if not with_gold.instances:
            raise InputError(
                "no instance has an output to train on", record=task.id, field="outputs"
            )
        for instance in with_gold.sample_instances(
            instances_per_task or config.train.instances_per_task, config.train.seed
        ):
            try:
                prompt = builder.prompt(task, instance, room).token_ids
            except InputError as error:
                if error.field != "input":
                    raise
                too_long.append(f"{task.id}/{instance.id}")
                continue
            completion = builder.completion(instance.outputs[0])
            if len(prompt) + len(completion) > longest:
                too_long.append(f"{task.id}/{instance.id}")
                continue
            rows.append(
                {
                    "task_id": task.id,
                    "instance_id": instance.id,
                    "prompt_token_ids": prompt,
                    "completion_token_ids": completion,
                }
            )
    if not rows and too_long:
        problem = f"every row is longer than {longest} tokens, or leaves no room for {room} more"
        raise InputError(problem, record=", ".join(task.id for task in tasks[:3]))
    return TrainingRows(pl.DataFrame(rows, schema=ROW_COLUMNS), tuple(too_long))


def choose_probes(frame: pl.DataFrame, n_probes: int = 8) -> tuple[TokenPair, ...]:
    """Rows at equal distances as probe pairs, see `engine.weights.probing.crossed`.

    Args:
        frame: Rows, see `ROW_COLUMNS`; at least one.
        n_probes: How many pairs, at most.
    """
    n = min(n_probes, frame.height)
    picked = frame[[index * frame.height // n for index in range(n)]]
    return crossed(picked["prompt_token_ids"].to_list(), picked["completion_token_ids"].to_list())
