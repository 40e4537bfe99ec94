"""Evaluation on held-out tasks: greedy outputs, ROUGE-L and exact match.

As in the evaluation of Super-NaturalInstructions (Wang et al., 2022): ROUGE-L is the F-measure of
the `rouge-score` package with its stemmer, exact match compares normalised strings, and the best
over the gold outputs counts. All metrics lie in [0, 100]. The package's tokenizer keeps Latin
letters and digits only, so ROUGE-L of other scripts is 0.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Protocol

from engine.errors import InputError
from engine.prompts import PromptBuilder
from engine.tasks import Record, Task
from training.config import EvaluateConfig

_DROP_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Generator(Protocol):
    """What evaluation needs of the engine's client."""

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> list[str]:
        """Greedy outputs, decoded, in the order of the prompts."""
        ...


class Score(Record):
    """Metrics of a task, a category or all tasks.

    Attributes:
        rouge_l: Mean ROUGE-L F-measure, in [0, 100].
        exact_match: Share of outputs that equal a gold output, in [0, 100].
        n_instances: Instances evaluated.
    """

    rouge_l: float
    exact_match: float
    n_instances: int


class Evaluation(Record):
    """Metrics of one set of weights.

    Attributes:
        overall: Mean over tasks, each with the same weight.
        categories: The same within each category; tasks without one count as `none`.
        tasks: By task id.
    """

    overall: Score
    categories: dict[str, Score]
    tasks: dict[str, Score]


@dataclass(frozen=True)
class EvaluationSet:
    """Prompts and gold outputs, built once and used for every set of weights.

    Attributes:
        tasks: The held-out tasks, each with the sampled instances only.
        prompts: Token ids by task, one row per instance.
    """

    tasks: tuple[Task, ...]
    prompts: tuple[tuple[tuple[int, ...], ...], ...]

    @property
    def n_prompts(self) -> int:
        """Prompts of all tasks."""
        return sum(len(rows) for rows in self.prompts)


def build_evaluation_set(
    tasks: Sequence[Task], builder: PromptBuilder, config: EvaluateConfig
) -> EvaluationSet:
    """Sample instances that have gold outputs and encode their prompts.

    Raises:
        InputError: If there is no task, or a task has no instance with a gold output.
    """
    if not tasks:
        raise InputError("there is no held-out task to evaluate", field="pool.held_out")
    sampled: list[Task] = []
    for task in tasks:
        answered = tuple(instance for instance in task.instances if any(instance.outputs))
        if not answered:
            raise InputError(
                "no instance has an output to compare", record=task.id, field="outputs"
            )
        with_gold = task.model_copy(update={"instances": answered})
        chosen = with_gold.sample_instances(config.instances_per_task, config.seed)
        sampled.append(task.model_copy(update={"instances": chosen}))
    prompts = tuple(
        tuple(
            builder.prompt(task, instance, config.max_new_tokens).token_ids
            for instance in task.instances
        )
        for task in sampled
    )
    return EvaluationSet(tuple(sampled), prompts)


class Evaluator:
    """Runs an evaluation set, a few tasks at a time so that progress can be shown.

    Args:
        data: What to ask, and what is right.
        max_new_tokens: Longest output, in tokens.
        prompts_per_call: Prompts sent together, at least; an engine works best on many at once.
    """

    def __init__(
        self, data: EvaluationSet, max_new_tokens: int, prompts_per_call: int = 32
    ) -> None:
        self.data = data
        self.max_new_tokens = max_new_tokens
        self.prompts_per_call = prompts_per_call
        # Not at the top: it imports scipy and scikit-learn, seconds before any input is looked at.
        from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]

        self._scorer = RougeScorer(["rougeL"], use_stemmer=True)
        self._scores: list[Score] = []

    @property
    def n_tasks(self) -> int:
        """Tasks in the set."""
        return len(self.data.tasks)

    def run(self, generator: Generator) -> Iterator[tuple[int, str]]:
        """Evaluate all tasks; yields how many are done, and the id of the last of them."""
        self._scores = []
        first = 0
        while first < self.n_tasks:
            after, n_prompts = first, 0
            while after < self.n_tasks and n_prompts < self.prompts_per_call:
                n_prompts += len(self.data.prompts[after])
                after += 1
            prompts = [row for rows in self.data.prompts[first:after] for row in rows]
            outputs = iter(generator.generate(prompts, self.max_new_tokens))
            for task in self.data.tasks[first:after]:
                self._scores.append(self.score_task(task, [next(outputs) for _ in task.instances]))
            first = after
            yield after, self.data.tasks[after - 1].id

    def result(self) -> Evaluation:
        """Means over categories and over all, once `run` has gone through."""
        assert len(self._scores) == self.n_tasks, "the evaluation has not gone through"
        return summarise(self.data.tasks, self._scores)

    def score_task(self, task: Task, outputs: Sequence[str]) -> Score:
        """Metrics of one output per instance of a task."""
        pairs = list(zip(outputs, [each.outputs for each in task.instances], strict=True))
        return Score(
            rouge_l=fmean(self.rouge_l(output, gold) for output, gold in pairs),
            exact_match=fmean(100.0 * exact_match(output, gold) for output, gold in pairs),
            n_instances=len(pairs),
        )

    def rouge_l(self, output: str, golds: Sequence[str]) -> float:
        """Best ROUGE-L F-measure over the gold outputs, in [0, 100]."""
        return 100.0 * max(
            float(self._scorer.score(target=gold, prediction=output)["rougeL"].fmeasure)
            for gold in golds
        )


def exact_match(output: str, golds: Sequence[str]) -> bool:
    """Whether the normalised output equals a normalised gold output."""
    return any(normalise(output) == normalise(gold) for gold in golds)


def normalise(text: str) -> str:
    """Lower case, no ASCII punctuation, single spaces."""
    return " ".join(text.lower().translate(_DROP_PUNCTUATION).split())


def summarise(tasks: Sequence[Task], scores: Sequence[Score]) -> Evaluation:
    """Means over categories and over all, from the metrics of each task."""
    by_category: dict[str, list[Score]] = {}
    for task, score in zip(tasks, scores, strict=True):
        by_category.setdefault(task.category or "none", []).append(score)
    return Evaluation(
        overall=_mean(scores),
        categories={name: _mean(by_category[name]) for name in sorted(by_category)},
        tasks={task.id: score for task, score in zip(tasks, scores, strict=True)},
    )


def _mean(scores: Sequence[Score]) -> Score:
    return Score(
        rouge_l=fmean(score.rouge_l for score in scores),
        exact_match=fmean(score.exact_match for score in scores),
        n_instances=sum(score.n_instances for score in scores),
    )
