"""How likely each label of a classification is under every prompt, and how unsure the label is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from engine.errors import InputError
from engine.measures.label_measures import LABEL_MEASURES, LABEL_PROBABILITIES
from engine.measures.label_uncertainty import information_table
from engine.measures.measure import Measure
from engine.prompts import PromptBuilder
from engine.protocol.score_config import ScoreConfig
from engine.questions.pair_plan import Pair, TaskPlan, check_length, prompts_of
from engine.questions.question import Asked, Counts, Question, QuestionRow
from engine.tasks import Task
from engine.variance.analysis import Moves


class LabelScore(QuestionRow):
    """How likely one label is under one prompt, a row of `labels.parquet`.

    Attributes:
        label: The label, scored as if it were the output, end of sequence included.
        n_tokens: Its tokens.
        logprob: Sum of the token log-probabilities, <= 0, a natural logarithm.
        probability: exp(logprob) divided by the sum of it over the labels of the prompt, in [0, 1].
    """

    label: str
    n_tokens: int
    logprob: float
    probability: float


class LabelQuestion(Question):
    """Scores every label under every prompt as if it were the output."""

    table = "labels"
    row = LabelScore
    input = LABEL_PROBABILITIES
    measures: ClassVar[tuple[Measure, ...]] = LABEL_MEASURES

    def fault(self, task: Task, config: ScoreConfig) -> InputError | None:
        """A task needs labels."""
        if task.labels:
            return None
        problem = f"has no labels, which {self.name} is measured with"
        return InputError(problem, record=task.id, field="labels")

    def n_asked(self, task: Task, config: ScoreConfig) -> Counts:
        return Counts(pairs=config.n_prompts(len(task.instances)) * len(set(task.labels)))

    def plan(
        self, plan: TaskPlan, pairs: Sequence[Pair], config: ScoreConfig, builder: PromptBuilder
    ) -> list[Asked]:
        """All labels under all prompts, perturbation by perturbation, in the task's order."""
        labels = dict.fromkeys(plan.task.labels)
        outputs = [(label, builder.completion(label)) for label in labels]
        planned = []
        for instance_id, j, prompt in prompts_of(plan, pairs):
            for label, output in outputs:
                pair = Pair(plan.task.id, instance_id, j, prompt, output, f"/label={label!r}")
                check_length(pair, builder.max_model_len)
                planned.append(Asked(pair, label))
        return planned

    def keep(
        self, asked: Sequence[Asked], answers: Sequence[Any], task: Task, builder: PromptBuilder
    ) -> list[QuestionRow]:
        """A row per label and prompt; probabilities sum to 1 per prompt."""
        prompts = [(one.call.instance_id, one.call.perturbation) for one in asked]
        sums = [math.fsum(scored.token_logprobs) for scored in answers]
        # From the logarithms: the probabilities themselves may all be too small to divide.
        highest: dict[tuple[str, int], float] = {}
        for prompt, logprob in zip(prompts, sums, strict=True):
            highest[prompt] = max(logprob, highest.get(prompt, logprob))
        shares: dict[tuple[str, int], list[float]] = {}
        for prompt, logprob in zip(prompts, sums, strict=True):
            shares.setdefault(prompt, []).append(math.exp(logprob - highest[prompt]))
        totals = {prompt: math.fsum(each) for prompt, each in shares.items()}
        return [
            LabelScore(
                instance_id=prompt[0],
                perturbation=prompt[1],
                label=one.about,
                n_tokens=len(scored.token_logprobs),
                logprob=logprob,
                probability=math.exp(logprob - highest[prompt]) / totals[prompt],
            )
            for one, prompt, logprob, scored in zip(asked, prompts, sums, answers, strict=True)
        ]

    def grid(self, rows: Iterable[Mapping[str, Any]]) -> Moves:
        return information_table(self.arrange(rows))
