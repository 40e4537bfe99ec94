"""Several engines as one: every task once, weights on all or none."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from engine.errors import EngineError, InputError
from engine.protocol.api import SkippedTask, TaskScore, Usage
from engine.protocol.completions import CompletionLogprobs, CompletionLogprobsResponse, TokenPair
from engine.protocol.score_config import ScoreConfig
from engine.protocol.weights_state import Verification, WeightsState
from engine.tasks import Task
from tests.engine.weights.served import SERVED, live
from tests.training.fakes import FakeEngine, make_pool
from training.run.fleet import Fleet


class Mortal(FakeEngine):
    """Fails for good after a number of scores, or refuses to load."""

    lives_for: int | None = None
    waits_for: Mortal | None = None
    refuses = False
    dead = False
    verified: Verification | None = None

    def __init__(self, version: str = "base") -> None:
        super().__init__(version=version)
        self.asked: list[int] = []
        self.scored: list[int] = []
        self.gone = threading.Event()

    def score(
        self,
        tasks: Iterable[Task],
        config: ScoreConfig,
        on_skip: Callable[[SkippedTask], None] | None = None,
    ) -> Iterator[TaskScore]:
        tasks = list(tasks)
        self.scored.append(len(tasks))
        if self.waits_for is not None:
            self.waits_for.gone.wait()
        for count, score in enumerate(super().score(tasks, config)):
            if self.dead or (self.lives_for is not None and count >= self.lives_for):
                self.dead = True
                self.gone.set()
                raise EngineError("connection reset")
            yield score

    def weights(self) -> WeightsState:
        if self.dead:
            raise EngineError("connection refused")
        return super().weights().model_copy(update={"verified": self.verified})

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int, end: int) -> list[str]:
        if self.dead:
            raise EngineError("connection refused")
        return [str(prompt[0]) for prompt in prompts]

    def completion_logprobs(self, pairs: Sequence[TokenPair]) -> CompletionLogprobsResponse:
        if self.dead:
            raise EngineError("connection refused")
        self.asked.append(len(pairs))
        results = tuple(
            CompletionLogprobs.of(index, self.version, 1, [-float(pair.prompt_token_ids[0])])
            for index, pair in enumerate(pairs)
        )
        return CompletionLogprobsResponse(
            weights_version=self.version, results=results, usage=Usage(pairs=len(pairs))
        )

    def load_weights(
        self, path: Path, version: str, *, verify: Verification = "probes"
    ) -> WeightsState:
        self.events.append(f"load {version}")
        if self.refuses:
            raise EngineError("probes differ")
        if version.startswith("unverified-") and verify != "files":
            raise InputError("has no manifest", field="path")
        self.version = version
        self.verified = verify
        return live(version, str(path))


def test_every_task_is_scored_once() -> None:
    one, two = Mortal(), Mortal()
    fleet = Fleet({"one": one, "two": two})
    scores = list(fleet.score(list(make_pool(30)), ScoreConfig()))
    assert Counter(score.task_id for score in scores) == Counter(f"task-{i}" for i in range(30))


@pytest.mark.parametrize(("n_tasks", "most"), [(0, 0), (3, 1), (100, 25), (1000, 32)])
def test_tasks_go_out_in_parts_that_leave_the_last_ones_to_all(n_tasks: int, most: int) -> None:
    one, two = Mortal(), Mortal()
    fleet = Fleet({"one": one, "two": two})
    assert len(list(fleet.score(list(make_pool(n_tasks)), ScoreConfig()))) == n_tasks
    assert max([*one.scored, *two.scored], default=0) == most


@pytest.mark.parametrize("lives_for", [0, 1, 3])
def test_the_work_of_a_dead_engine_goes_to_the_others(lives_for: int) -> None:
    one, two = Mortal(), Mortal()
    one.lives_for, two.waits_for = lives_for, one
    fleet = Fleet({"one": one, "two": two})
    scores = list(fleet.score(list(make_pool(30)), ScoreConfig()))
    assert Counter(score.task_id for score in scores) == Counter(f"task-{i}" for i in range(30))
    assert fleet.alive == ["two"]


def test_when_all_are_dead_the_last_failure_is_told() -> None:
    one, two = Mortal(), Mortal()
    one.lives_for = two.lives_for = 1
    fleet = Fleet({"one": one, "two": two})
    with pytest.raises(EngineError, match="no engine is left; the last one failed: connection"):
        list(fleet.score(list(make_pool(30)), ScoreConfig()))
    with pytest.raises(EngineError, match="no engine is left"):
        fleet.generate([[1]], 4, 2)


def test_a_fault_of_a_task_is_not_the_engines() -> None:
    class Strict(FakeEngine):
        def score(
            self,
            tasks: Iterable[Task],
            config: ScoreConfig,
            on_skip: Callable[[SkippedTask], None] | None = None,
        ) -> Iterator[TaskScore]:
            raise InputError("too long", record=next(iter(tasks)).id)
            yield

    fleet = Fleet({"one": Strict(), "two": Strict()})
    with pytest.raises(InputError, match="too long"):
        list(fleet.score(list(make_pool(8)), ScoreConfig()))
    assert fleet.alive == ["one", "two"]


def test_outputs_come_in_order_even_when_an_engine_dies() -> None:
    one, two = Mortal(), Mortal()
    one.dead = True
    fleet = Fleet({"one": one, "two": two})
    assert fleet.generate([[i] for i in range(100)], 4, 2) == [str(i) for i in range(100)]


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
    barrier = threading.Barrier(2, timeout=600)

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


def test_engines_go_back_to_weights_that_nobody_vouched_for(tmp_path: Path) -> None:
    one, two = Mortal(), Mortal()
    fleet = Fleet({"one": one, "two": two})
    fleet.load_weights(tmp_path, "unverified-1", verify="files")
    two.refuses = True
    with pytest.raises(EngineError, match=r"^probes differ$"):
        fleet.load_weights(tmp_path, "v2")
    assert one.events[-2:] == ["load v2", "load unverified-1"]
    assert {each.version for each in (one, two)} == {"unverified-1"}


def test_an_engine_that_lags_behind_is_brought_up(tmp_path: Path) -> None:
    one, two = Mortal(version="v2"), Mortal(version="base")
    fleet = Fleet({"one": one, "two": two})
    assert fleet.weights().version == "mixed: one v2, two base"
    assert fleet.load_weights(tmp_path, "v2").version == "v2"
    assert one.events == ["ask version"] * 2
    assert fleet.weights().version == "v2"


@pytest.mark.parametrize("loaded", [False, True])
def test_engines_of_different_models_are_refused_and_named(loaded: bool) -> None:
    wider = SERVED.model_copy(update={"max_model_len": 4096})
    retrained = SERVED.model_copy(update={"weights": "3" * 64})
    one = FakeEngine(version="v2" if loaded else SERVED.version)
    for served, said in ((wider, "max_model_len 2048 and 4096"), (retrained, "other weights")):
        two = FakeEngine(version="v2" if loaded else served.version, served=served)
        fleet = Fleet({"one": one, "two": two})
        if loaded and served is retrained:  # those of the start are live on neither
            assert fleet.weights().version == "v2"
            continue
        with pytest.raises(InputError, match=f"one and two serve different models.*{said}"):
            fleet.weights()


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


class Picky(Mortal):
    """Fails at some tasks and prompts, for good and while it goes on answering."""

    def __init__(self, *faulty: str, error: Exception | None = None, dies: bool = False) -> None:
        super().__init__()
        self.faulty = set(faulty)
        self.error = error or EngineError("500: CUDA error")
        self.dies = dies

    def _look(self, names: Iterable[str]) -> None:
        if self.dead or self.faulty & set(names):
            self.dead = self.dies
            raise self.error

    def score(
        self,
        tasks: Iterable[Task],
        config: ScoreConfig,
        on_skip: Callable[[SkippedTask], None] | None = None,
    ) -> Iterator[TaskScore]:
        for score in FakeEngine.score(self, tasks, config):
            self._look([score.task_id])
            yield score

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int, end: int) -> list[str]:
        self._look(str(prompt[0]) for prompt in prompts)
        return super().generate(prompts, max_tokens, end)

    def completion_logprobs(self, pairs: Sequence[TokenPair]) -> CompletionLogprobsResponse:
        self._look(str(pair.prompt_token_ids[0]) for pair in pairs)
        return super().completion_logprobs(pairs)


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "ask",
    [
        lambda fleet: list(fleet.score(list(make_pool(30)), ScoreConfig())),
        lambda fleet: fleet.generate([[i] for i in range(30)], 4, 2),
        lambda fleet: fleet.completion_logprobs(make_pairs(30)),
    ],
    ids=["score", "generate", "completion_logprobs"],
)
def test_an_error_that_nobody_thought_of_is_raised(ask: Callable[[Fleet], object]) -> None:
    names = ("task-3", "3")
    fleet = Fleet({name: Picky(*names, error=RuntimeError("a bug")) for name in ("one", "two")})
    with pytest.raises(RuntimeError, match="a bug"):
        ask(fleet)


@pytest.mark.timeout(10)
def test_a_task_that_two_engines_fail_at_is_at_fault_and_they_stay() -> None:
    fleet = Fleet({name: Picky("task-5") for name in ("one", "two", "three")})
    tasks = list(make_pool(30))
    with pytest.raises(InputError, match=r"record task-5: 2 engines failed at it: .*CUDA error; "):
        list(fleet.score(tasks, ScoreConfig()))
    skipped: list[SkippedTask] = []
    scores = list(fleet.score(tasks, ScoreConfig(), skipped.append))
    assert Counter(score.task_id for score in scores) == Counter(
        task.id for task in tasks if task.id != "task-5"
    )
    assert [one.task_id for one in skipped] == ["task-5"]
    assert "2 engines failed at it" in skipped[0].reason
    assert fleet.alive == ["one", "two", "three"]


@pytest.mark.timeout(10)
def test_several_faulty_tasks_are_all_skipped() -> None:
    fleet = Fleet({name: Picky("task-0", "task-1", "task-29") for name in ("one", "two")})
    skipped: list[SkippedTask] = []
    scores = list(fleet.score(list(make_pool(30)), ScoreConfig(), skipped.append))
    assert sorted(one.task_id for one in skipped) == ["task-0", "task-1", "task-29"]
    assert len({score.task_id for score in scores}) == len(scores) == 27


@pytest.mark.timeout(10)
def test_an_engine_that_fails_at_what_another_can_do_is_dropped() -> None:
    fleet = Fleet({"one": Picky("task-0"), "two": Picky()})
    scores = list(fleet.score(list(make_pool(30)), ScoreConfig()))
    assert Counter(score.task_id for score in scores) == Counter(f"task-{i}" for i in range(30))
    assert fleet.alive in (["two"], ["one", "two"])  # it may never have been given that task


@pytest.mark.timeout(10)
def test_a_task_that_kills_engines_does_not_kill_all() -> None:
    fleet = Fleet({str(number): Picky("task-0", dies=True) for number in range(6)})
    skipped: list[SkippedTask] = []
    scores = list(fleet.score(list(make_pool(30)), ScoreConfig(), skipped.append))
    assert [one.task_id for one in skipped] == ["task-0"]
    assert len({score.task_id for score in scores}) == len(scores) == 29
    assert len(fleet.alive) >= 2


@pytest.mark.timeout(10)
def test_a_pair_or_prompt_that_two_engines_fail_at_is_named() -> None:
    fleet = Fleet({"one": Picky("17"), "two": Picky("17")})
    with pytest.raises(InputError, match="record prompt 17: 2 engines failed at it"):
        fleet.generate([[i] for i in range(100)], 4, 2)
    with pytest.raises(InputError, match="record pair 17: 2 engines failed at it"):
        fleet.completion_logprobs(make_pairs(100))
    assert fleet.alive == ["one", "two"]


@pytest.mark.timeout(10)
def test_the_last_engine_does_what_it_can_before_it_gives_up() -> None:
    fleet = Fleet({"one": Picky("task-5")})
    answers = fleet.score(list(make_pool(30)), ScoreConfig())
    assert len({score.task_id for score in itertools.islice(answers, 29)}) == 29
    with pytest.raises(EngineError, match="CUDA error"):
        next(answers)
    assert fleet.alive == ["one"]


@pytest.mark.timeout(30)
def test_nobody_waits_for_an_engine_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    hangs, ended = threading.Event(), threading.Event()

    class Hanging(Mortal):
        def generate(
            self, prompts: Sequence[Sequence[int]], max_tokens: int, end: int
        ) -> list[str]:
            hangs.set()
            ended.wait()
            return []

    class Faulty(Mortal):
        def generate(
            self, prompts: Sequence[Sequence[int]], max_tokens: int, end: int
        ) -> list[str]:
            hangs.wait()
            raise InputError("too long")

    monkeypatch.setattr("training.run.spreading._STOP_SECONDS", 0.0)
    try:
        with pytest.raises(InputError, match="too long"):
            Fleet({"one": Hanging(), "two": Faulty()}).generate([[i] for i in range(100)], 4, 2)
    finally:
        ended.set()
