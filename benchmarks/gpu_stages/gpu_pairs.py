"""The pairs that the speed stages of `benchmarks.gpu` ask a server about, and what that takes."""

from __future__ import annotations

import time

from benchmarks.common.floor import floor_flops, unique_tokens
from benchmarks.common.pairs import BenchmarkPairs, all_pairs, gold_outputs, sample_tasks
from benchmarks.gpu_stages.gpu_stage import Bench
from engine.client import EngineClient
from engine.protocol.api import Usage
from engine.protocol.score_config import ScoreConfig
from engine.tasks import Task

DESIGN = ScoreConfig(reference="gold")
"""The paper's: 10 instances, 10 perturbations."""

TASKS, ALL_TASKS = 15, 88
"""1,650 pairs for all ways; up to 9,680 for the way of a user."""

TURNS = 2
"""How often each server is asked, each time about other pairs of the same tasks."""


class Work:
    """The pairs of a model, and what measuring them gives."""

    def __init__(self, bench: Bench, model: str) -> None:
        self.bench = bench
        self.model = model
        small = {"n_instances": 2, "n_perturbations": 2}
        self.design = DESIGN.model_copy(update=small if bench.tiny else {})
        self._builder = bench.builder(model)
        self.tasks = sample_tasks(bench.few(TASKS), self.design, 0, self._builder, bench.tasks)
        self.turns = [self.expand(self.tasks, turn) for turn in range(TURNS)]
        self.facts = [facts(pairs) for pairs in self.turns]

    def of_users(self) -> tuple[list[Task], dict[str, float]]:
        """As many tasks as there are, and the facts of their pairs."""
        n = 2 if self.bench.tiny else ALL_TASKS
        tasks = sample_tasks(n, self.design, 0, self._builder, self.bench.tasks)
        return tasks, facts(self.expand(tasks, TURNS))

    def seeded(self, seed: int) -> ScoreConfig:
        """The design with other instances and perturbations: no cache holds more than a tenth."""
        return self.design.model_copy(update={"seed": seed})

    def expand(self, tasks: list[Task], seed: int) -> BenchmarkPairs:
        """All pairs of some tasks."""
        design = self.seeded(seed)
        outputs = gold_outputs(tasks, design, self._builder)
        return all_pairs(tasks, outputs, design, self._builder, self.model)

    def fixed(self, client: EngineClient, turn: int) -> dict[str, float]:
        """The pairs of a turn as token ids in one request."""
        body = self.turns[turn].token_pairs
        started = time.perf_counter()
        usage = client.completion_logprobs(body).usage
        return self.facts[turn] | _spent(time.perf_counter() - started, usage)

    def of_tasks(
        self, client: EngineClient, tasks: list[Task], seed: int, *, gold: bool
    ) -> dict[str, float]:
        """The tasks as a user sends them."""
        reference = "gold" if gold else "generated"
        config = self.seeded(seed).model_copy(update={"reference": reference})
        arrived: list[tuple[float, int]] = []
        usage = Usage()
        started = time.perf_counter()
        for score in client.score(tasks, config):
            arrived.append((time.perf_counter() - started, score.usage.pairs))
            usage += score.usage
        return _spent(time.perf_counter() - started, usage) | steady(arrived)


def steady(arrived: list[tuple[float, int]]) -> dict[str, float]:
    """Pairs per second without the first and the last second; nothing where little is left.

    Args:
        arrived: Seconds and pairs of each score, in order.
    """
    inner = [each for each in arrived if 1.0 < each[0] < arrived[-1][0] - 1.0]
    if len(inner) < 10:
        return {}
    # Between the first of them and the last came all but the first one's pairs.
    pairs = sum(count for _, count in inner[1:])
    return {"steady_pairs_per_second": pairs / (inner[-1][0] - inner[0][0])}


def facts(pairs: BenchmarkPairs) -> dict[str, float]:
    """What is known of pairs before anything is measured."""
    return {
        "pairs": len(pairs.prompts),
        "floor_flops": floor_flops(pairs),
        "tokens_unique": unique_tokens(pairs),
    }


def _spent(seconds: float, usage: Usage) -> dict[str, float]:
    return {
        "seconds": seconds,
        "tokens_submitted": usage.tokens_submitted,
        "tokens_computed": usage.tokens_computed,
        "tokens_generated": usage.tokens_generated,
        "pairs_rescored": usage.pairs_rescored,
    }
