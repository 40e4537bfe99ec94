"""The requests of a workload, laid out before anything is measured."""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from engine.bench.workload import Workload
from engine.client.pair_stream import PairBatch
from engine.client.score_stream import Batch
from engine.design.costs import TaskCost
from engine.errors import InputError
from engine.prompts import PromptBuilder
from engine.protocol.completions import TokenPair
from engine.protocol.score_config import BASE_MEASURE, ScoreConfig
from engine.questions.pair_plan import Pair, plan_pairs, plan_task
from engine.tasks import Task

STOCK = "stock"
"""What the way is called by which vLLM's own route scores the same pairs."""

_PAIRS_KEPT = 4_096  # of a workload of pairs; so many are laid out, and gone through again


@dataclass(frozen=True)
class Call:
    """A request that can be sent.

    Attributes:
        kind: `logprobs`, `uncertainty`, `samples`, or `stock`.
        n_pairs: Pairs that it is about.
        content: The pairs, or the tasks with their design.
        salt: With which of the others it shares prefixes.
        length: Sum of `text_length` over its tasks; 0 where it is about pairs.
    """

    kind: str
    n_pairs: int
    content: Any
    salt: str
    length: float = 0.0

    def streamed(self) -> PairBatch | Batch:
        """What our routes are asked."""
        if self.kind == "logprobs":
            texts = enumerate(pair.model_dump_json(exclude_none=True) for pair in self.content)
            return PairBatch(
                dict(texts), json.dumps({"stream": True, "cache_salt": self.salt})[1:-1]
            )
        tasks, config = self.content
        return Batch(tasks, config, cache_salt=self.salt)


class Calls:
    """The requests of a workload in an order that its seed decides.

    Args:
        kinds: Kinds of requests, which take turns.
        builder: Lays pairs out; of no use without such.

    Raises:
        InputError: If a pair cannot be laid out, or there is none.
    """

    def __init__(
        self,
        workload: Workload,
        tasks: Sequence[Task],
        kinds: Sequence[str],
        builder: Callable[[], PromptBuilder],
    ) -> None:
        self._kinds = kinds
        self._run = uuid.uuid4().hex
        self._phases = itertools.count()
        self._items: dict[str, list[_Item]] = {}
        for kind in kinds:
            if kind in ("logprobs", STOCK):
                made = _pairs(workload, tasks, builder())
            else:
                made = _scorings(workload, tasks, kind)
            self._items[kind] = made

    def of(self, kinds: Sequence[str] | None = None, start: float = 0.0) -> Iterator[Call]:
        """Requests without end, none of which finds anything of earlier ones in the cache.

        Args:
            kinds: Those among all that take turns; None: all.
            start: Which share of the requests to begin behind, in [0, 1).
        """
        phase = f"{self._run}.{next(self._phases)}"
        return self._turns([self._one_kind(kind, start, phase) for kind in kinds or self._kinds])

    @staticmethod
    def _turns(sources: Sequence[Iterator[Call]]) -> Iterator[Call]:
        while True:
            yield from map(next, sources)

    def _one_kind(self, kind: str, start: float, phase: str) -> Iterator[Call]:
        items = self._items[kind]
        place = int(start * len(items))
        while True:
            passed, at = divmod(place, len(items))
            n_pairs, content, length = items[at]
            yield Call(kind, n_pairs, content, f"{phase}.{kind}.{passed}", length)
            place += 1


_Item = tuple[int, Any, float]


def _pairs(workload: Workload, tasks: Sequence[Task], builder: PromptBuilder) -> list[_Item]:
    """Gold outputs under every prompt of the design, prompts that share a beginning together."""
    config = workload.config.model_copy(update={"reference": "gold", "measure": BASE_MEASURE})
    found: list[Pair] = []
    for task in tasks:
        if len(found) >= _PAIRS_KEPT:
            break
        plan = plan_task(task, config, builder)
        outputs = [builder.completion(one.outputs[0]) for one in plan.instances]
        found += plan_pairs(plan, outputs, config, builder)
    given = [
        TokenPair(prompt_token_ids=pair.prompt, completion_token_ids=pair.output) for pair in found
    ]
    size = workload.per_request
    some = [given[first : first + size] for first in range(0, len(given), size)]
    return [(len(each), each, 0.0) for each in some]


def _scorings(workload: Workload, tasks: Sequence[Task], kind: str) -> list[_Item]:
    config = scoring_config(workload.config, kind)
    found: list[_Item] = []
    for first in range(0, len(tasks), workload.per_request):
        batch = Batch.of(tasks[first : first + workload.per_request], config)
        n_pairs = sum(config.n_prompts(len(task.instances)) for task in batch.tasks)
        length = sum(text_length(task, config) for task in batch.tasks)
        found.append((n_pairs, (batch.tasks, batch.config), length))
    if not found:
        raise InputError("there is no task to measure with", field="--pool")
    return found


def text_length(task: Task, config: ScoreConfig) -> float:
    """Characters of a task that a scoring goes through, those that its prompts share once a prompt.

    What a task takes varies with it: an instruction of a line, another of a page.

    Args:
        config: The design, of whose instances the task holds no more.
    """
    shown = (
        *task.positive_examples[: config.prompt.n_positive_examples],
        *task.negative_examples[: config.prompt.n_negative_examples],
    )
    prefix = len(task.definition) + sum(len(each.input) + len(each.output) for each in shown)
    n = len(task.instances)
    tail = sum(len(each.input) + len("".join(each.golds[:1])) for each in task.instances)
    cost = TaskCost(prefix, tail / n if n else 0.0)
    return cost.tokens(n, config.n_perturbations, config.n_prompts(n) - n)


def scoring_config(config: ScoreConfig, kind: str) -> ScoreConfig:
    """The design of requests of tasks."""
    measure = "output_disagreement" if kind == "samples" else BASE_MEASURE
    return config.model_copy(update={"measure": measure})
