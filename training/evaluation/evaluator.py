"""Evaluation on held-out tasks: greedy outputs, ROUGE-L and exact match.

As in the evaluation of Super-NaturalInstructions (Wang et al., 2022): ROUGE-L is the F-measure of
the `rouge-score` package with its stemmer, exact match compares normalised strings, and the best
over the gold outputs counts. Both lie in [0, 100]. The package's tokenizer keeps Latin letters and
digits only; words of other scripts are found by `engine.perturb.boundaries` and kept beside them.
"""

from __future__ import annotations

import math
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, geometric_mean

import regex  # type: ignore[import-untyped]

from engine.errors import InputError
from engine.perturb.boundaries import words
from engine.prompts import PromptBuilder
from engine.protocol.completions import TokenPair
from engine.protocol.engine_calls import Engine
from engine.tasks import Record, Task
from training.config.run_config import EvaluateConfig
from training.evaluation.bootstrap import mean_interval, share_interval

_LATIN_OR_OTHER = regex.compile(
    r"(?V1)(?P<other>[[\w]--[\p{Latin}\p{Inherited}\p{ASCII}]][[\w]--[\p{Latin}\p{ASCII}]]*)"
    r"|[a-z0-9]+"
)
_DROP_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Score(Record):
    """Metrics of a task, a category or all tasks.

    Attributes:
        rouge_l: Mean ROUGE-L F-measure, in [0, 100].
        exact_match: Share of outputs that equal a gold output, in [0, 100].
        n_instances: Instances evaluated.
        rouge_l_interval: Bootstrap confidence interval at 95 %; over instances for a task, over
            tasks for several. None where there are fewer than two.
        exact_match_interval: The same for exact match; of a task Wilson's.
        gold_perplexity: exp of minus the mean over instances of the mean token log-probability of
            the first gold output, >= 1; the geometric mean over tasks. None if not asked for, or
            where no gold output fits the context.
        gold_instances: Instances whose gold output fits the context: those that gold perplexity is
            measured on. None if not asked for.
    """

    rouge_l: float
    exact_match: float
    n_instances: int
    rouge_l_interval: tuple[float, float] | None = None
    exact_match_interval: tuple[float, float] | None = None
    gold_perplexity: float | None = None
    gold_instances: int | None = None


class Evaluation(Record):
    """Metrics of one set of weights.

    Attributes:
        overall: Mean over tasks, each with the same weight.
        categories: The same within each category; tasks without one count as `none`.
        kinds: The same over `classification` tasks, see `Task.is_classification`, and `generation`
            tasks.
        tasks: By task id.
    """

    overall: Score
    categories: dict[str, Score]
    kinds: dict[str, Score]
    tasks: dict[str, Score]


class Output(Record):
    """One answer, a line of `outputs.jsonl`.

    Attributes:
        task_id: The task.
        instance_id: The instance.
        definition: The instruction.
        input: The instance's input.
        gold: Its gold outputs.
        output: What the model answered.
        rouge_l: In [0, 100].
        exact_match: Whether it equals a gold output.
    """

    task_id: str
    instance_id: str
    definition: str
    input: str
    gold: tuple[str, ...]
    output: str
    rouge_l: float
    exact_match: bool


@dataclass(frozen=True)
class EvaluationSet:
    """Prompts and gold outputs, built once and used for every set of weights.

    Attributes:
        tasks: The held-out tasks, see `PromptBuilder.clean`, each with the sampled instances only.
        prompts: Token ids by task, one row per instance.
        end: The token that ends an output.
        golds: Pairs of prompt and first gold output by task; empty if they are not scored. Those
            that do not fit the context are left out.
    """

    tasks: tuple[Task, ...]
    prompts: tuple[tuple[tuple[int, ...], ...], ...]
    end: int
    golds: tuple[tuple[TokenPair, ...], ...] = ()


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
    for task in map(builder.clean, tasks):
        with_gold = task.with_instances(each for each in task.instances if each.outputs)
        if not with_gold.instances:
            raise InputError(
                "no instance has an output to compare", record=task.id, field="outputs"
            )
        chosen = with_gold.sample_instances(config.instances_per_task, config.seed)
        # Told from all instances, for a sample of them may look otherwise.
        kind = task.is_classification
        sampled.append(task.model_copy(update={"instances": chosen, "classification": kind}))
    prompts = tuple(
        tuple(
            builder.prompt(task, instance, config.max_new_tokens).token_ids
            for instance in task.instances
        )
        for task in sampled
    )
    golds: tuple[tuple[TokenPair, ...], ...] = ()
    if config.gold_perplexity:
        golds = tuple(
            tuple(_gold_pairs(task, rows, builder))
            for task, rows in zip(sampled, prompts, strict=True)
        )
    return EvaluationSet(tuple(sampled), prompts, builder.end, golds)


def _gold_pairs(
    task: Task, prompts: Sequence[tuple[int, ...]], builder: PromptBuilder
) -> Iterator[TokenPair]:
    for instance, prompt in zip(task.instances, prompts, strict=True):
        gold = builder.completion(instance.outputs[0])
        # One position is kept free: the engine generates at least one token after every prompt.
        if len(prompt) + len(gold) < builder.max_model_len:
            yield TokenPair(prompt_token_ids=prompt, completion_token_ids=gold)


class AnyScript:
    """Words for ROUGE: those of `rouge-score` with its stemmer, and those of other scripts."""

    def __init__(self) -> None:
        from rouge_score.tokenizers import DefaultTokenizer  # type: ignore[import-untyped]

        self._latin = DefaultTokenizer(use_stemmer=True)

    def tokenize(self, text: str) -> list[str]:
        """The words; of a text in Latin letters exactly those of the package."""
        found: list[str] = []
        for run in words(text, ()):
            for piece in _LATIN_OR_OTHER.finditer(run.text.lower()):
                found += [piece[0]] if piece.lastgroup else self._latin.tokenize(piece[0])
        return found


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

        self._scorer = RougeScorer(["rougeL"], tokenizer=AnyScript())
        self._scores: list[Score] = []
        self.outputs: list[Output] = []

    @property
    def n_tasks(self) -> int:
        return len(self.data.tasks)

    def run(self, engine: Engine) -> Iterator[tuple[int, str]]:
        """Evaluate all tasks; yields how many are done, and the id of the last of them."""
        self._scores, self.outputs = [], []
        first = 0
        while first < self.n_tasks:
            after, n_prompts = first, 0
            while after < self.n_tasks and n_prompts < self.prompts_per_call:
                n_prompts += len(self.data.prompts[after])
                after += 1
            prompts = [row for rows in self.data.prompts[first:after] for row in rows]
            texts = iter(engine.generate(prompts, self.max_new_tokens, self.data.end))
            perplexities = self._gold_perplexities(engine, first, after)
            for task, gold in zip(self.data.tasks[first:after], perplexities, strict=True):
                answers = self.compare(task, [next(texts) for _ in task.instances])
                self.outputs += answers
                self._scores.append(score_task(task.id, answers, *gold))
            first = after
            yield after, self.data.tasks[after - 1].id

    def result(self) -> Evaluation:
        """Means over categories, kinds and all, once `run` has gone through."""
        assert len(self._scores) == self.n_tasks, "the evaluation has not gone through"
        return summarise(self.data.tasks, self._scores)

    def compare(self, task: Task, texts: Sequence[str]) -> list[Output]:
        """One output per instance of a task, compared with its gold outputs."""
        return [
            Output(
                task_id=task.id,
                instance_id=instance.id,
                definition=task.definition,
                input=instance.input,
                gold=instance.outputs,
                output=text,
                rouge_l=self.rouge_l(text, instance.outputs),
                exact_match=exact_match(text, instance.outputs),
            )
            for instance, text in zip(task.instances, texts, strict=True)
        ]

    def rouge_l(self, output: str, golds: Sequence[str]) -> float:
        """Best ROUGE-L F-measure over the gold outputs, in [0, 100]."""
        return 100.0 * max(
            float(self._scorer.score(target=gold, prediction=output)["rougeL"].fmeasure)
            for gold in golds
        )

    def _gold_perplexities(
        self, engine: Engine, first: int, after: int
    ) -> list[tuple[float | None, int | None]]:
        """Of the tasks from `first` to `after`, in one request, with the number of gold outputs."""
        if not self.data.golds:
            return [(None, None)] * (after - first)
        by_task = self.data.golds[first:after]
        pairs = [pair for each in by_task for pair in each]
        results = iter(engine.completion_logprobs(pairs).results if pairs else ())
        found: list[tuple[float | None, int | None]] = []
        for each in by_task:
            means = [next(results).mean_logprob for _ in each]
            loss = -fmean(means) if means else math.inf
            found.append((math.exp(loss) if loss < 700 else None, len(means)))  # beyond is no float
        return found


def score_task(
    name: str, outputs: Sequence[Output], perplexity: float | None, golds: int | None
) -> Score:
    """Metrics of a task from its outputs, and the perplexity of so many gold outputs."""
    rouge = [each.rouge_l for each in outputs]
    exact = [each.exact_match for each in outputs]
    return Score(
        rouge_l=fmean(rouge),
        exact_match=100.0 * fmean(exact),
        n_instances=len(outputs),
        rouge_l_interval=_interval(rouge, name),
        exact_match_interval=share_interval(exact),
        gold_perplexity=perplexity,
        gold_instances=golds,
    )


def exact_match(output: str, golds: Sequence[str]) -> bool:
    """Whether the normalised output equals a normalised gold output."""
    return any(normalise(output) == normalise(gold) for gold in golds)


def normalise(text: str) -> str:
    """Lower case, no ASCII punctuation, single spaces."""
    return " ".join(text.lower().translate(_DROP_PUNCTUATION).split())


def summarise(tasks: Sequence[Task], scores: Sequence[Score]) -> Evaluation:
    """Means over categories, kinds and all, from the metrics of each task."""
    by_category: dict[str, list[Score]] = {}
    by_kind: dict[str, list[Score]] = {}
    for task, score in zip(tasks, scores, strict=True):
        by_category.setdefault(task.category or "none", []).append(score)
        kind = "classification" if task.is_classification else "generation"
        by_kind.setdefault(kind, []).append(score)
    return Evaluation(
        overall=_mean("overall", scores),
        categories={name: _mean(name, by_category[name]) for name in sorted(by_category)},
        kinds={name: _mean(name, by_kind[name]) for name in sorted(by_kind)},
        tasks={task.id: score for task, score in zip(tasks, scores, strict=True)},
    )


def _mean(name: str, scores: Sequence[Score]) -> Score:
    rouge = [score.rouge_l for score in scores]
    exact = [score.exact_match for score in scores]
    known = [score.gold_perplexity for score in scores if score.gold_perplexity is not None]
    counts = [score.gold_instances for score in scores if score.gold_instances is not None]
    return Score(
        rouge_l=fmean(rouge),
        exact_match=fmean(exact),
        n_instances=sum(score.n_instances for score in scores),
        rouge_l_interval=_interval(rouge, name),
        exact_match_interval=_interval(exact, name),
        gold_perplexity=geometric_mean(known) if known else None,
        gold_instances=sum(counts) if counts else None,
    )


def _interval(values: Sequence[float], name: str) -> tuple[float, float] | None:
    """Of a mean of values in [0, 100]."""
    found = mean_interval(values, name)
    return found and (max(0.0, found[0]), min(100.0, found[1]))
