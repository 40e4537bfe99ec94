"""The pairs of prompt uncertainty, scored in this process by packs that share a prefix.

For models that are trained and scored in turns: no engine is started and no weights travel.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import polars as pl
import torch

from benchmarks.evidence.shared_prefix import Answering, Pack, output_rows, side_by_side
from engine.prompts import PromptBuilder
from engine.protocol.api import PairScore
from engine.protocol.score_config import ScoreConfig
from engine.questions.pair_plan import Pair, TaskPlan, plan_pairs, plan_task
from engine.tasks import Task
from training.tables.score_tables import pair_table


@dataclass(frozen=True)
class ScoredTask:
    """The pairs of a task, ordered by perturbation and instance.

    Attributes:
        original_tokens: Tokens computed under original prompts, those of the outputs included: an
            engine tells their log-probabilities as it generates them.
        perturbed_tokens: Tokens computed under the others.
    """

    task_id: str
    pairs: list[PairScore]
    original_tokens: int
    perturbed_tokens: int

    def table(self) -> pl.DataFrame:
        """The pairs as `training.tables.score_tables.PAIR_COLUMNS`."""
        return pair_table([(self.task_id, self.pairs, "in this process")])


def score_tasks(
    model: Any,
    tasks: Iterable[Task],
    config: ScoreConfig,
    builder: PromptBuilder,
    *,
    perturbed: bool = True,
    known: dict[str, list[tuple[int, ...]]] | None = None,
) -> list[ScoredTask]:
    """What `jostle score` computes of tasks.

    Args:
        perturbed: Whether of perturbed prompts, too; else of the originals alone.
        known: Reference outputs of tasks by id, which are taken; those of other tasks are added.
    """
    plans = [plan_task(task, config, builder) for task in tasks]
    outputs = {} if known is None else known
    missing = [plan for plan in plans if plan.task.id not in outputs]
    for plan, found in zip(missing, _outputs(model, missing, config, builder), strict=True):
        outputs[plan.task.id] = found
    return [
        _scored(
            model, plan, plan_pairs(plan, outputs[plan.task.id], config, builder), config, perturbed
        )
        for plan in plans
    ]


def _scored(
    model: Any, plan: TaskPlan, pairs: list[Pair], config: ScoreConfig, perturbed: bool
) -> ScoredTask:
    found: list[PairScore] = []
    tokens = {True: 0, False: 0}
    for j, of_j in groupby(pairs, key=lambda pair: pair.perturbation):
        if j and not perturbed:
            break
        rows = list(of_j)
        pack = Pack.of([(pair.prompt, pair.output) for pair in rows])
        tokens[j == 0] += len(pack.tokens)
        with torch.inference_mode():
            values, ids = output_rows(model, pack)
        own = values.gather(1, ids[:, None])[:, 0]
        greedy = (own >= values.max(dim=1).values).tolist()
        generated = (
            j == 0 and config.reference != "gold"
        )  # it was greedy, whatever rounding says now
        logprobs, at = own.tolist(), 0
        for pair in rows:
            place = slice(at, at + len(pair.output))
            at += len(pair.output)
            is_greedy = generated or all(greedy[place])
            found.append(
                PairScore.of(pair.instance_id, j, len(pair.prompt), logprobs[place], is_greedy)
            )
    return ScoredTask(plan.task.id, found, tokens[True], tokens[False])


def _outputs(
    model: Any, plans: list[TaskPlan], config: ScoreConfig, builder: PromptBuilder
) -> list[list[tuple[int, ...]]]:
    """The reference outputs of each task."""
    if config.reference == "gold":
        return [
            [builder.completion(instance.outputs[0]) for instance in plan.instances]
            for plan in plans
        ]
    packs = [
        Pack.of([(original.token_ids, (builder.end,)) for original in plan.originals])
        for plan in plans
    ]
    most = config.max_output_tokens
    found: dict[int, list[tuple[int, ...]]] = {}
    for group in side_by_side(enumerate(packs)):
        answers = Answering(model, [pack for _, pack in group], builder.end).run(most)
        for (at, _), answer in zip(group, answers, strict=True):
            found[at] = [
                tuple(output) if len(output) == most else (*output, builder.end)
                for output in answer.outputs
            ]
    return [found[at] for at in range(len(plans))]
