"""Which outputs are sampled for a task, and what is kept of each."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from engine.errors import InputError
from engine.protocol.measurements import Sample
from engine.protocol.score_config import ScoreConfig
from engine.questions.backend import PlannedSample, Sampled
from engine.questions.pair_plan import Pair, TaskPlan, prompts_of


def plan_samples(
    plan: TaskPlan, pairs: Sequence[Pair], config: ScoreConfig, max_model_len: int
) -> list[PlannedSample]:
    """All samples of a task, perturbation by perturbation, those of a prompt side by side.

    Args:
        plan: The task's plan.
        pairs: Its pairs, whose perturbed prompts are used.
        config: The design.
        max_model_len: The model's context, in tokens.

    Raises:
        InputError: If a prompt leaves no room in the context for the longest output.
    """
    planned = []
    for instance_id, j, prompt in prompts_of(plan, pairs):
        if len(prompt) + config.max_output_tokens > max_model_len:
            raise InputError(
                f"the prompt has {len(prompt)} tokens; the context of {max_model_len} leaves no "
                f"room for {config.max_output_tokens} of a sample",
                record=f"{plan.task.id}/{instance_id}/j={j}",
                field="max_output_tokens",
            )
        for number in range(config.samples_per_prompt):
            planned.append(
                PlannedSample(
                    task_id=plan.task.id,
                    instance_id=instance_id,
                    perturbation=j,
                    sample=number,
                    prompt=prompt,
                    seed=sample_seed(config.seed, plan.task.id, instance_id, j, number),
                    temperature=config.sampling.temperature,
                    top_p=config.sampling.top_p,
                )
            )
    return planned


def sample_seed(seed: int, task_id: str, instance_id: str, j: int, number: int) -> int:
    """The seed of one sample, in [0, 2 ** 63): the same wherever and whenever it is drawn."""
    # A unit separator: ids may hold any character that people type.
    key = "\x1f".join(("sample", str(seed), task_id, instance_id, str(j), str(number)))
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1


def keep_sample(
    planned: PlannedSample, sampled: Sampled, text: str, labels: Sequence[str]
) -> Sample:
    """What is kept of a sampled output.

    Args:
        planned: Which one it is.
        sampled: The engine's answer.
        text: The output, decoded.
        labels: The task's labels, if it is a classification.
    """
    return Sample(
        instance_id=planned.instance_id,
        perturbation=planned.perturbation,
        sample=planned.sample,
        output=text,
        label=find_label(text, labels),
        n_tokens=len(sampled.token_ids),
        finish_reason=sampled.finish_reason,
    )


def find_label(output: str, labels: Sequence[str]) -> str | None:
    """The label that an output is, white space around it and letter case aside; None if none."""
    wanted = output.strip()
    if wanted in labels:
        return wanted
    folded = wanted.casefold()
    return next((label for label in labels if label.strip().casefold() == folded), None)
