"""Which labels of a classification are scored, and what is kept of each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from engine.errors import InputError
from engine.prompts import PromptBuilder
from engine.protocol.measurements import LabelScore
from engine.protocol.score_config import ScoreConfig
from engine.questions.pair_plan import Pair, TaskPlan, check_length, prompts_of


@dataclass(frozen=True, slots=True)
class LabelPair:
    """A prompt and a label as its output.

    Attributes:
        pair: The token ids.
        label: The label.
        place: Its place among the labels that are scored.
    """

    pair: Pair
    label: str
    place: int

    @property
    def perturbation(self) -> int:
        """The pair's j."""
        return self.pair.perturbation

    @property
    def name(self) -> str:
        """task/instance/perturbation/label, for messages."""
        return f"{self.pair.name}/label={self.label!r}"


@dataclass(frozen=True, slots=True)
class ScoredLabel:
    """What the engine says of one label."""

    planned: LabelPair
    token_logprobs: tuple[float, ...]


def plan_labels(
    plan: TaskPlan, pairs: Sequence[Pair], config: ScoreConfig, builder: PromptBuilder
) -> list[LabelPair]:
    """All labels under all prompts, perturbation by perturbation, those of a prompt side by side.

    Args:
        plan: The task's plan.
        pairs: Its pairs, whose perturbed prompts are used.
        config: The design.
        builder: The prompt builder that made the plan.

    Raises:
        InputError: If a prompt and a label together are longer than the model's context.
    """
    outputs = [(label, builder.completion(label)) for label in config.labels_to_score(plan.task)]
    planned = []
    for instance_id, j, prompt in prompts_of(plan, pairs):
        for place, (label, output) in enumerate(outputs):
            pair = Pair(plan.task.id, instance_id, j, prompt, output)
            check_length(pair, builder.max_model_len)
            planned.append(LabelPair(pair, label, place))
    return planned


def check_labels(plan: TaskPlan, config: ScoreConfig) -> None:
    """Raises `InputError` if labels are to be scored and the task has none."""
    if config.measure == "label_bald" and not plan.task.labels:
        raise InputError(
            "has no labels, which label_bald is measured with", record=plan.task.id, field="labels"
        )


def keep_labels(scored: Iterable[ScoredLabel]) -> list[LabelScore]:
    """What is kept of the labels of a task, in the order given; probabilities sum to 1 per prompt.

    Args:
        scored: All labels of each prompt.
    """
    logprobs: dict[tuple[str, int], list[float]] = {}
    sums = []
    for one in scored:
        pair, logprob = one.planned.pair, math.fsum(one.token_logprobs)
        logprobs.setdefault((pair.instance_id, pair.perturbation), []).append(logprob)
        sums.append((one, pair, logprob))
    # From the logarithms: the probabilities themselves may all be too small to divide.
    highest = {prompt: max(values) for prompt, values in logprobs.items()}
    totals = {
        prompt: math.fsum(math.exp(value - highest[prompt]) for value in values)
        for prompt, values in logprobs.items()
    }
    return [
        LabelScore(
            instance_id=pair.instance_id,
            perturbation=pair.perturbation,
            label=one.planned.label,
            n_tokens=len(one.token_logprobs),
            logprob=logprob,
            probability=math.exp(logprob - highest[pair.instance_id, pair.perturbation])
            / totals[pair.instance_id, pair.perturbation],
        )
        for one, pair, logprob in sums
    ]
