"""Several engines as one: every task once, weights on all or none."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from engine.api import (
    CompletionLogprobs,
    CompletionLogprobsResponse,
    TaskScore,
    TokenPair,
    Usage,
    WeightsState,
)
from engine.config import ScoreConfig
from engine.errors import EngineError, InputError
from engine.tasks import Task
from tests.training.fakes import FakeEngine, make_pool
from training.fleet import Fleet


class Mortal(FakeEngine):
    """Fails for good after a number of scores, or refuses to load."""

    lives_for: int | None = None
    refuses = False
    dead = False

    def __init__(self, version: str = "base") -> None:
        super().__init__(version=version)
        self.asked: list[int] = []

    def score(self, tasks: Sequence[Task], config: ScoreConfig) -> Iterator[TaskScore]:
        for count, score in enumerate(super().score(tasks, config)):
            if self.dead or (self.lives_for is not None and count >= self.lives_for):
                self.dead = True
                raise EngineError("connection reset")
            yield score

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> list[str]:
        if self.dead:
            raise EngineError("connection refused")
        return [str(prompt[0]) for prompt in prompts]

    def completion_logprobs(self, pairs: Sequence[TokenPair]) -> CompletionLogprobsResponse:
        if self.dead:
            raise EngineError("connection refused")
        self.asked.append(len(pairs))
        results = tuple(
            CompletionLogprobs(token_logprobs=(lp,), logprob=lp)
            for lp in (-float(pair.prompt_token_ids[0]) for pair in pairs)
        )
        return CompletionLogprobsResponse(
            weights_version=self.version, results=results, usage=Usage(pairs=len(pairs))
        )

    def load_weights(self, path: Path, version: str) -> WeightsState:
        self.events.append(f"load {version}")
        if self.refuses:
            raise EngineError("probes differ")
        self.version = version
        return WeightsState(version=version, path=str(path))


def test_every_task_is_scored_once() -> None:
    one, two = Mortal(), Mortal()
    fleet = Fleet({"one": one, "two": two})
    scores = list(fleet.score(list(make_pool(30)), ScoreConfig()))
    assert Counter(score.task_id for score in scores) == Counter(f"task-{i}" for i in range(30))


@pytest.mark.parametrize("lives_for", [0, 1, 3])
def test_the_work_of_a_dead_engine_goes_to_the_others(lives_for: int) -> None:
    one, two = Mortal(), Mortal()
    one.lives_for = lives_for
    fleet = Fleet({"one": one, "two": two})
    scores = list(fleet.score(list(make_pool(30)), ScoreConfig()))
    assert Counter(score.task_id for score in scores) == Counter(f"task-{i}" for i in range(30))
    assert fleet.alive in (["two"], ["one", "two"])  # it may not have had the time to die


def test_when_all_are_dead_the_last_failure_is_told() -> None:
    one, two = Mortal(), Mortal()
    one.lives_for = two.lives_for = 1
    fleet = Fleet({"one": one, "two": two})
    with pytest.raises(EngineError, match="no engine is left; the last one failed: connection"):
        list(fleet.score(list(make_pool(30)), ScoreConfig()))
    with pytest.raises(EngineError, match="no engine is left"):
        fleet.generate([[1]], 4)


def test_a_fault_of_a_task_is_not_the_engines() -> None:
    class Strict(FakeEngine):
        def score(self, tasks: Sequence[Task], config: ScoreConfig) -> Iterator[TaskScore]:
            raise InputError("too long", record=tasks[0].id)
            yield

    fleet = Fleet({"one": Strict(), "two": Strict()})
    with pytest.raises(InputError, match="too long"):
        list(fleet.score(list(make_pool(8)), ScoreConfig()))
    assert fleet.alive == ["one", "two"]


def test_outputs_come_in_order_even_when_an_engine_dies() -> None:
    one, two = Mortal(), Mortal()
    one.dead = True
    fleet = Fleet({"one": one, "two": two})
    assert fleet.generate([[i] for i in range(100)], 4) == [str(i) for i in range(100)]


def make_pairs(n: int) -> list[TokenPair]:
    return [TokenPair(prompt_token_ids=(i,), completion_token_ids=(1,)) for i in range(n)]


@pytest.mark.parametrize("n", [0, 1, 16, 17, 100])
def test_pairs_are_spread_and_come_back_in_order(n: int) -> None:
    one, two = Mortal(), Mortal()
    answer = Fleet({"one": one, "two": two}).completion_logprobs(make_pairs(n))
    assert [-result.logprob for result in answer.results] == list(range(n))
    assert answer.usage.pairs == n == sum(one.asked) + sum(two.asked)
    assert max([0, *one.asked, *two.asked]) <= max(8, (n + 1) // 2)
    assert answer.weights_version == "base"


def test_pairs_of_a_dead_engine_go_to_the_others() -> None:
    one, two = Mortal(), Mortal()
    one.dead = True
    answer = Fleet({"one": one, "two": two}).completion_logprobs(make_pairs(50))
    assert [-result.logprob for result in answer.results] == list(range(50))
    assert answer.usage.pairs == sum(two.asked) == 50


def test_engines_with_different_weights_give_no_answer() -> None:
    barrier = threading.Barrier(2, timeout=10)

    class Slow(Mortal):
        def completion_logprobs(self, pairs: Sequence[TokenPair]) -> CompletionLogprobsResponse:
            barrier.wait()  # each of them gets a part
            return super().completion_logprobs(pairs)

    fleet = Fleet({"one": Slow("v1"), "two": Slow("v2")})
    with pytest.raises(EngineError, match="different weights: v1, v2"):
        fleet.completion_logprobs(make_pairs(16))


def test_a_fault_of_a_pair_is_not_the_engines() -> None:
    class Strict(Mortal):
        def completion_logprobs(self, pairs: Sequence[TokenPair]) -> CompletionLogprobsResponse:
            raise InputError("empty completion", record="pairs[3]")

    fleet = Fleet({"one": Strict(), "two": Strict()})
    with pytest.raises(InputError, match="empty completion"):
        fleet.completion_logprobs(make_pairs(50))
    assert fleet.alive == ["one", "two"]


def test_weights_reach_all_or_none(tmp_path: Path) -> None:
    one, two = Mortal(version="v1"), Mortal(version="v1")
    fleet = Fleet({"one": one, "two": two})
    assert fleet.load_weights(tmp_path, "v2").version == "v2"
    assert fleet.weights().version == "v2"
    two.refuses = True
    with pytest.raises(EngineError, match="probes differ"):
        fleet.load_weights(tmp_path, "v3")
    assert (one.version, two.version) == ("v2", "v2")


def test_an_engine_that_lags_behind_is_brought_up(tmp_path: Path) -> None:
    one, two = Mortal(version="v2"), Mortal(version="base")
    fleet = Fleet({"one": one, "two": two})
    assert fleet.weights().version == "mixed: one v2, two base"
    assert fleet.load_weights(tmp_path, "v2").version == "v2"
    assert one.events == ["ask version"] * 2
    assert fleet.weights().version == "v2"


def test_an_engine_that_does_not_answer_is_left_out() -> None:
    class Gone(FakeEngine):
        def weights(self) -> WeightsState:
            raise EngineError("connection refused")

    fleet = Fleet({"one": Gone(), "two": FakeEngine()})
    assert fleet.weights().version == "base"
    assert fleet.alive == ["two"]
    with pytest.raises(EngineError, match=r"no engine is left; .*connection refused"):
        Fleet({"one": Gone()}).weights()


def test_a_fleet_needs_an_engine() -> None:
    with pytest.raises(InputError, match="names no engine"):
        Fleet({})
