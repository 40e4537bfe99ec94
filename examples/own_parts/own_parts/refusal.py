"""A question: how likely the model is to say that it does not know."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from engine.measures.measure import Input, Measure, mean
from engine.prompts import PromptBuilder
from engine.protocol.score_config import ScoreConfig
from engine.questions.pair_plan import Pair, TaskPlan, check_length
from engine.questions.question import Asked, Counts, Question, QuestionRow
from engine.tasks import Task
from engine.variance.analysis import Moves

TEXT = "I do not know."


class Refusal(QuestionRow):
    """The text behind an original prompt, a row of `refusals.parquet`.

    Attributes:
        n_tokens: Its tokens, end of sequence included.
        logprob: Sum of their log-probabilities, <= 0, a natural logarithm.
    """

    n_tokens: int
    logprob: float


def _probabilities(rows: Iterable[Mapping[str, Any]]) -> list[float]:
    by_instance = sorted((row["instance_id"], row["logprob"] / row["n_tokens"]) for row in rows)
    return [math.exp(value) for _, value in by_instance]


def _draw(draw: random.Random, n_tokens: int) -> list[dict[str, Any]]:
    return [{"n_tokens": n_tokens, "logprob": -draw.expovariate(1.0) * n_tokens}]


REFUSALS = Input("refusals", {"n_tokens": int, "logprob": float}, _draw, arrange=_probabilities)

REFUSAL_PROBABILITY = Measure(
    name="refusal_probability",
    title="probability of saying that it does not know",
    formula=f"mean over i of the probability per token of {TEXT!r} under the original prompt",
    source="an example of jostle",
    needs=REFUSALS.name,
    uncertain="high",
    lowest=0,
    highest=1,
    compute=mean,
)


class RefusalQuestion(Question):
    """Scores one text under each original prompt."""

    table = "refusals"
    row = Refusal
    input = REFUSALS
    crossed = False
    measures = (REFUSAL_PROBABILITY,)

    def n_asked(self, task: Task, config: ScoreConfig) -> Counts:
        """A pair an instance."""
        return Counts(pairs=min(len(task.instances), config.n_instances))

    def plan(
        self, plan: TaskPlan, pairs: Sequence[Pair], config: ScoreConfig, builder: PromptBuilder
    ) -> list[Asked]:
        """The text behind the prompt of each instance."""
        text = builder.completion(TEXT)
        asked = []
        for instance, original in zip(plan.instances, plan.originals, strict=True):
            pair = Pair(plan.task.id, instance.id, 0, original.token_ids, text, "/refusal")
            check_length(pair, builder.max_model_len)
            asked.append(Asked(pair, None))
        return asked

    def keep(
        self, asked: Sequence[Asked], answers: Sequence[Any], task: Task, builder: PromptBuilder
    ) -> list[QuestionRow]:
        """A row an instance."""
        return [
            Refusal(
                instance_id=one.call.instance_id,
                perturbation=0,
                n_tokens=len(scored.token_logprobs),
                logprob=math.fsum(scored.token_logprobs),
            )
            for one, scored in zip(asked, answers, strict=True)
        ]

    def grid(self, rows: Iterable[Mapping[str, Any]]) -> Moves:
        """Without perturbed prompts there is no table, and no error is told."""
        return np.empty((len(self.arrange(rows)), 0))


REFUSAL = RefusalQuestion()
