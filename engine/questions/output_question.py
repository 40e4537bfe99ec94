"""Sampled outputs under every prompt, and how much they differ."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from engine.errors import InputError
from engine.measures.disagreement import disagreement_table, label_entropy
from engine.measures.output_measures import OUTPUT_MEASURES, SAMPLES
from engine.prompts import PromptBuilder
from engine.protocol.score_config import ScoreConfig
from engine.questions.backend import PlannedSample
from engine.questions.pair_plan import Pair, TaskPlan, prompts_of
from engine.questions.question import Asked, Counts, Question, QuestionRow
from engine.tasks import Task
from engine.variance.analysis import Moves


class Sample(QuestionRow):
    """One sampled output, a row of `samples.parquet`.

    Attributes:
        sample: Its number among the samples of this prompt, from 0.
        output: The output, decoded, special tokens left out.
        label: The task's label that the output is, white space around it and letter case aside;
            null if it is none, or the task has no labels.
        n_tokens: Its tokens, end-of-sequence included when it was emitted.
        finish_reason: `stop` (end of sequence) or `length` (cut at max_output_tokens).
    """

    sample: int
    output: str
    label: str | None
    n_tokens: int
    finish_reason: str


class OutputQuestion(Question):
    """Draws outputs under every prompt, each with a seed of its own.

    Beside its measures it tells `output_label_entropy`: the mean over instances of the entropy, in
    nats, of the label over all samples under j >= 1; outputs that are no label count as one label
    more. Null without labels.
    """

    table = "samples"
    row = Sample
    input = SAMPLES
    draws = True
    measures = tuple(
        each
        for name in ("output_disagreement", "output_rouge_distance")
        for each in OUTPUT_MEASURES
        if each.name == name
    )

    def n_asked(self, task: Task, config: ScoreConfig) -> Counts:
        return Counts(samples=config.n_prompts(len(task.instances)) * _per_prompt(config))

    def plan(
        self, plan: TaskPlan, pairs: Sequence[Pair], config: ScoreConfig, builder: PromptBuilder
    ) -> list[Asked]:
        """All samples of a task, perturbation by perturbation, those of a prompt side by side."""
        longest, context = config.max_output_tokens, builder.max_model_len
        planned = []
        for instance_id, j, prompt in prompts_of(plan, pairs):
            if len(prompt) + longest > context:
                raise InputError(
                    f"the prompt has {len(prompt)} tokens; the context of {context} leaves no "
                    f"room for {longest} of a sample",
                    record=f"{plan.task.id}/{instance_id}/j={j}",
                    field="max_output_tokens",
                )
            for number in range(_per_prompt(config)):
                one = PlannedSample(
                    task_id=plan.task.id,
                    instance_id=instance_id,
                    perturbation=j,
                    sample=number,
                    prompt=prompt,
                    seed=sample_seed(config.seed, plan.task.id, instance_id, j, number),
                    temperature=config.sampling.temperature,
                    top_p=config.sampling.top_p,
                    max_tokens=longest,
                    end=builder.end,
                )
                planned.append(Asked(one, number))
        return planned

    def keep(
        self, asked: Sequence[Asked], answers: Sequence[Any], task: Task, builder: PromptBuilder
    ) -> list[QuestionRow]:
        rows: list[QuestionRow] = []
        for one, sampled in zip(asked, answers, strict=True):
            text = builder.decode(sampled.token_ids)
            rows.append(
                Sample(
                    instance_id=one.call.instance_id,
                    perturbation=one.call.perturbation,
                    sample=one.about,
                    output=text,
                    label=find_label(text, task.labels),
                    n_tokens=len(sampled.token_ids),
                    finish_reason=sampled.finish_reason,
                )
            )
        return rows

    def grid(self, rows: Iterable[Mapping[str, Any]]) -> Moves:
        return disagreement_table(self.arrange(rows))

    def values(self, rows: Sequence[Mapping[str, Any]], task: Task) -> dict[str, float | None]:
        """The entropy of labels too."""
        entropy = label_entropy(rows) if task.labels else None
        return super().values(rows, task) | {"output_label_entropy": entropy}


def _per_prompt(config: ScoreConfig) -> int:
    """Outputs sampled under each prompt: at temperature 0 all would be equal."""
    return config.sampling.n_samples if config.sampling.temperature > 0 else 1


def sample_seed(seed: int, task_id: str, instance_id: str, j: int, number: int) -> int:
    """The seed of one sample, in [0, 2 ** 63): the same wherever and whenever it is drawn."""
    # A unit separator: ids may hold any character that people type.
    key = "\x1f".join(("sample", str(seed), task_id, instance_id, str(j), str(number)))
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1


def find_label(output: str, labels: Sequence[str]) -> str | None:
    """The label that an output is, white space around it and letter case aside; None if none."""
    wanted = output.strip()
    if wanted in labels:
        return wanted
    folded = wanted.casefold()
    return next((label for label in labels if label.strip().casefold() == folded), None)
