"""What is in a pool: counts, lengths, categories, duplicates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from engine.pools.estimate import Estimate, TaskSample
from engine.pools.lengths import LengthCounter, Lengths, Measure, count_words
from engine.pools.texts import fingerprint
from engine.protocol.score_config import ScoreConfig
from engine.tasks import Record, Task


class PoolStats(Record):
    """What is in a pool. Texts count as equal if they differ in case and white space only.

    Attributes:
        tasks: Tasks.
        instances: Instances of all tasks.
        measured_instances: Those of them that the design samples.
        instances_without_gold: Instances without a gold output.
        tasks_without_gold: Tasks of which no instance has one; they cannot be trained on.
        empty_inputs: Instances whose input is empty.
        positive_examples: Positive examples of all tasks.
        negative_examples: Negative examples of all tasks.
        classifications: Tasks for which `Task.is_classification` holds.
        categories: Tasks of each category, the largest first.
        without_category: Tasks without one.
        repeated_definitions: Tasks whose definition an earlier task has.
        repeated_tasks: Of these, tasks whose inputs are the same too, in the same order.
        repeated_instances: Instances with an input that an earlier one of their task has.
        unit: `tokens` or `words`, of the lengths.
        definition: Lengths of the definitions.
        input: Lengths of the instances' inputs.
        output: Lengths of the first gold outputs.
        estimate: What scoring the pool takes, if that was asked for.
    """

    tasks: int
    instances: int
    measured_instances: int
    instances_without_gold: int
    tasks_without_gold: int
    empty_inputs: int
    positive_examples: int
    negative_examples: int
    classifications: int
    categories: dict[str, int]
    without_category: int
    repeated_definitions: int
    repeated_tasks: int
    repeated_instances: int
    unit: str
    definition: Lengths
    input: Lengths
    output: Lengths
    estimate: Estimate | None = None


def collect_stats(
    tasks: Iterable[Task], config: ScoreConfig, tokenizer: Any | None = None
) -> tuple[PoolStats, list[Task]]:
    """Go through the tasks once.

    Args:
        config: The design, which says how many instances are measured.
        tokenizer: A transformers tokenizer to measure lengths in tokens, special tokens left out;
            in words when none.

    Returns:
        The statistics, without an estimate, and the sample of tasks that one can be made with.

    Raises:
        InputError: What the tasks raise.
    """
    counter = _Counter(config, count_words if tokenizer is None else _token_counter(tokenizer))
    for task in tasks:
        counter.add(task)
    return counter.stats("words" if tokenizer is None else "tokens"), counter.sample.tasks


def _token_counter(tokenizer: Any) -> Measure:
    def count_tokens(texts: list[str]) -> list[int]:
        rows = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        return [len(ids) for ids in rows]

    return count_tokens


class _Counter:
    """What has been counted so far."""

    def __init__(self, config: ScoreConfig, measure: Measure) -> None:
        self._config = config
        self._counts: Counter[str] = Counter()
        self._categories: Counter[str] = Counter()
        self._definitions: set[bytes] = set()
        self._tasks: set[bytes] = set()
        self._lengths = {part: LengthCounter(measure) for part in ("definition", "input", "output")}
        self.sample = TaskSample(config)

    def add(self, task: Task) -> None:
        counts = self._counts
        counts["tasks"] += 1
        counts["instances"] += len(task.instances)
        counts["measured_instances"] += min(self._config.n_instances, len(task.instances))
        counts["positive_examples"] += len(task.positive_examples)
        counts["negative_examples"] += len(task.negative_examples)
        counts["classifications"] += task.is_classification
        if task.category is None:
            counts["without_category"] += 1
        else:
            self._categories[task.category] += 1
        self._lengths["definition"].add(task.definition)
        self._add_instances(task)
        self.sample.add(task)

    def _add_instances(self, task: Task) -> None:
        inputs: set[bytes] = set()
        in_order = []
        without_gold = 0
        for instance in task.instances:
            self._lengths["input"].add(instance.input)
            if instance.golds:
                self._lengths["output"].add(instance.golds[0])
            else:
                without_gold += 1
            mark = fingerprint(instance.input)
            in_order.append(mark)
            self._counts["repeated_instances"] += mark in inputs
            self._counts["empty_inputs"] += not instance.input.strip()
            inputs.add(mark)
        self._counts["instances_without_gold"] += without_gold
        self._counts["tasks_without_gold"] += without_gold == len(task.instances)
        definition = fingerprint(task.definition)
        whole = fingerprint(definition.hex(), *(mark.hex() for mark in in_order))
        self._counts["repeated_definitions"] += definition in self._definitions
        self._counts["repeated_tasks"] += whole in self._tasks
        self._definitions.add(definition)
        self._tasks.add(whole)

    def stats(self, unit: str) -> PoolStats:
        names = PoolStats.model_fields.keys() - {"categories", "unit", "estimate", *self._lengths}
        return PoolStats(
            **{name: self._counts[name] for name in names},
            categories=dict(self._categories.most_common()),
            unit=unit,
            definition=self._lengths["definition"].lengths(),
            input=self._lengths["input"].lengths(),
            output=self._lengths["output"].lengths(),
        )
