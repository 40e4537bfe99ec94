"""Growing a table step by step gives what scoring it at once gives."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from engine.design.costs import TaskCost
from engine.design.entries import Extension, RaceConfig
from engine.design.extensions import Scored
from engine.design.live_race import LiveTables
from engine.design.race_answers import RaceAnswer
from engine.design.race_plan import RaceResult, plan_race, run_race
from engine.design.race_rules import Race
from engine.errors import EngineError, InputError
from engine.perturb import Typos
from engine.prompts import PromptBuilder
from engine.protocol.api import SkippedTask, TaskScore, Usage
from engine.protocol.completions import CompletionLogprobs, CompletionLogprobsResponse, TokenPair
from engine.protocol.score_config import ScoreConfig
from engine.protocol.weights_state import WeightsState
from engine.questions.pair_plan import plan_task
from engine.questions.scorer import TaskScorer
from engine.tasks import Task
from engine.variance.pair_grid import PairGrid
from tests.engine.examples import make_task
from tests.engine.no_engine import NoEngine
from tests.engine.questions.fake_backend import FakeBackend, output_logprobs
from tests.engine.weights.served import live

CONFIG = ScoreConfig(max_output_tokens=8)


class Engine(NoEngine):
    """Answers like a server and counts pairs."""

    def __init__(self) -> None:
        self.backend = FakeBackend()
        self.version = "base"
        self.scored: list[tuple[int, int, int]] = []
        self.columns: list[int] = []

    def score(
        self,
        tasks: Iterable[Task],
        config: ScoreConfig,
        on_skip: Callable[[SkippedTask], None] | None = None,
    ) -> Iterator[TaskScore]:
        given = list(tasks)
        self.scored.append((len(given), config.n_instances, config.n_perturbations))

        async def all_scores() -> list[TaskScore]:
            scorer = TaskScorer(self.backend, config, self.version)
            return [s async for s in scorer.score(given) if isinstance(s, TaskScore)]

        return iter(asyncio.run(all_scores()))

    def completion_logprobs(self, pairs: Sequence[TokenPair]) -> CompletionLogprobsResponse:
        self.columns.append(len(pairs))
        results = tuple(
            CompletionLogprobs.of(
                index,
                self.version,
                len(pair.prompt_token_ids),
                output_logprobs(pair.prompt_token_ids, pair.completion_token_ids),
            )
            for index, pair in enumerate(pairs)
        )
        return CompletionLogprobsResponse(
            weights_version=self.version, results=results, usage=Usage(pairs=len(pairs))
        )


def make_builder(engine: Engine) -> PromptBuilder:
    return PromptBuilder(engine.backend.tokenizer, CONFIG.prompt, engine.backend.max_model_len)


def make_tables(engine: Engine, tasks: Sequence[Task], **more: Any) -> LiveTables:
    return LiveTables(engine, tasks, CONFIG, make_builder(engine), **more)


def race(
    engine: Engine,
    tasks: Sequence[Task],
    config: RaceConfig,
    on_batch: Callable[[Race], None] | None = None,
    *,
    by_category: bool = False,
    **more: Any,
) -> RaceResult:
    planned = plan_race(tasks, CONFIG, make_builder(engine), config, by_category=by_category)
    return run_race(planned, make_tables(engine, tasks, **more), on_batch)


def step(table: Scored) -> Extension:
    return Extension("colors", table, 1.0)


def crossed(n: int, k: int) -> Scored:
    return np.ones((n, k), bool)


def test_a_table_grown_in_steps_is_the_table_scored_at_once() -> None:
    engine, task = Engine(), make_task(n_instances=6)
    tables = make_tables(engine, [task])
    some = crossed(4, 3)
    some[:2, 2] = False
    for table in (crossed(2, 2), some, crossed(4, 3), crossed(6, 3), crossed(6, 5)):
        found = tables.extend([step(table)])["colors"].moves
        assert (np.isfinite(found) == table).all()
    # Two instances, two more under all three perturbations, two more.
    assert engine.scored == [(1, 2, 2), (1, 2, 3), (1, 2, 3)]
    # The holes of the third perturbation, two perturbations of all 6 instances.
    assert engine.columns == [2, 12]
    at_once = make_tables(Engine(), [task]).extend([step(crossed(6, 5))])["colors"].moves
    assert found == pytest.approx(at_once, abs=1e-12)
    whole = PairGrid.of(next(Engine().score([task], CONFIG.model_copy(
        update={"n_instances": 6, "n_perturbations": 5}))).pairs).moves  # fmt: skip
    assert sorted(map(tuple, found.round(9))) == sorted(map(tuple, whole.round(9)))


def test_new_instances_may_start_at_a_later_perturbation() -> None:
    engine, task = Engine(), make_task(n_instances=6)
    tables = make_tables(engine, [task])
    tables.extend([step(crossed(2, 2))])
    block = np.zeros((4, 3), bool)
    block[:2, :2] = block[2:, 2:] = True
    found = tables.extend([step(block)])["colors"].moves
    assert engine.scored == [(1, 2, 2), (1, 2, 1)]
    assert engine.columns == []
    at_once = make_tables(Engine(), [task]).extend([step(crossed(4, 3))])["colors"].moves
    assert found[block] == pytest.approx(at_once[block], abs=1e-12)


def test_a_race_runs_over_an_engine() -> None:
    engine = Engine()
    tasks = [make_task(f"task-{index}", n_instances=6) for index in range(8)]
    builder = make_builder(engine)
    costs = [TaskCost.of(plan_task(task, CONFIG, builder), CONFIG, builder) for task in tasks]
    budget = 1.5 * sum(cost.tokens(4, 3) for cost in costs)
    config = RaceConfig(n_select=3, budget=budget, start_instances=4, start_perturbations=3)
    spent: list[float] = []
    result = race(engine, tasks, config, lambda now: spent.append(now.tokens))
    assert [standing.task_id for standing in result.standings] == [task.id for task in tasks]
    by_u = sorted(result.standings, key=lambda standing: -standing.ranking_estimate)
    assert result.selected == tuple(standing.task_id for standing in by_u[:3])
    assert set(result.open) <= {task.id for task in tasks}
    assert any(standing.pairs > 16 for standing in result.standings)
    assert engine.scored[0] == (8, 4, 3)
    # Originals come with the reference outputs, so they are not scored as pairs.
    assert result.usage.pairs == sum(s.pairs - s.n_instances for s in result.standings)
    assert spent == sorted(spent)
    assert spent[-1] == result.tokens <= budget


def n_pairs(answers: Iterable[RaceAnswer]) -> int:
    return sum(len(pairs) for answer in answers for pairs in answer.pairs.values())


def test_categories_race_each_on_its_own() -> None:
    engine = Engine()
    tasks = [
        make_task(f"task-{index}", n_instances=4).model_copy(update={"category": "ab"[index % 2]})
        for index in range(6)
    ]
    config = RaceConfig(n_select=1, budget=1e5)
    result = race(engine, tasks, config, by_category=True)
    assert sorted(int(name[-1]) % 2 for name in result.selected) == [0, 1]


@pytest.mark.slow
@pytest.mark.parametrize("n_known", [0, 1, 7, 12, 13, 20])
def test_a_race_goes_on_from_the_answers_of_one_that_broke_off(n_known: int) -> None:
    tasks = [make_task(f"task-{index}", n_instances=6) for index in range(8)]
    config = RaceConfig(n_select=3, budget=20_000)
    engine, answers = Engine(), list[RaceAnswer]()
    whole = race(engine, tasks, config, on_answer=answers.append)
    assert len(answers) > 20, "some of them are further extensions"
    known = [RaceAnswer.model_validate_json(each.model_dump_json()) for each in answers[:n_known]]
    again, further = Engine(), list[RaceAnswer]()
    assert race(again, tasks, config, answers=known, on_answer=further.append) == whole
    assert n_pairs([*known, *further]) == n_pairs(answers), "none twice"


def test_more_answers_than_a_race_asks_for_do_not_disturb_it() -> None:
    tasks = [make_task(f"task-{index}", n_instances=6) for index in range(8)]
    small, large = (RaceConfig(n_select=3, budget=budget) for budget in (12_000, 20_000))
    answers = list[RaceAnswer]()
    race(Engine(), tasks, large, on_answer=answers.append)
    alone = race(Engine(), tasks, small)
    told = race(Engine(), tasks, small, answers=answers)
    assert told.standings == alone.standings
    assert told.tokens == alone.tokens


def test_answers_of_other_weights_are_refused() -> None:
    tasks, answers = [make_task(n_instances=6)], list[RaceAnswer]()
    make_tables(Engine(), tasks, on_answer=answers.append).extend([step(crossed(2, 2))])
    other = Engine()
    other.version = "other"
    with pytest.raises(EngineError, match="changed during the race, from 'base' to 'other'"):
        make_tables(other, tasks, answers=answers).extend([step(crossed(4, 2))])


def test_weights_that_change_on_the_way_end_the_race() -> None:
    engine = Engine()
    tables = make_tables(engine, [make_task(n_instances=6)])
    tables.extend([step(crossed(2, 2))])
    engine.version = "other"
    with pytest.raises(EngineError, match="changed during the race"):
        tables.extend([step(crossed(2, 3))])


def test_many_pairs_are_asked_for_in_several_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    task, answers = make_task(n_instances=6), list[RaceAnswer]()
    at_once = make_tables(Engine(), [task]).extend([step(crossed(6, 5))])["colors"].moves
    monkeypatch.setattr("engine.design.live_race.REQUEST_PAIRS", 5)
    engine = Engine()
    tables = make_tables(engine, [task], on_answer=answers.append)
    for table in (crossed(6, 2), crossed(6, 5)):
        found = tables.extend([step(table)])["colors"].moves
    assert engine.columns == [5, 5, 5, 3]
    assert len(answers) == 5, "each is kept when it is there"
    assert found == pytest.approx(at_once, abs=1e-12)


def test_all_prompts_of_a_table_show_equally_many_examples() -> None:
    """Misspelt words are longer, by how much depends on the perturbation; no fewer fit later."""
    task = make_task(n_instances=4)
    config = CONFIG.model_copy(update={"perturbation": Typos(rate=0.5)})
    apart = 0
    for room in range(40, 160):
        builder = PromptBuilder(Engine().backend.tokenizer, CONFIG.prompt, room)
        try:
            plans = [
                [plan_task(task, one.with_design(4, k), builder).originals for k in (1, 12)]
                for one in (config, config.model_copy(update={"fit_perturbations": 12}))
            ]
        except InputError:  # too long even without examples
            continue
        (few, many), (few_fitted, many_fitted) = (
            [[each.n_positive_examples for each in originals] for originals in both]
            for both in plans
        )
        apart += few != many
        assert few_fitted == many_fitted == many
    assert apart, "which would not be so by itself"


@pytest.mark.parametrize("r", [1, 2])
def test_costs_do_not_depend_on_the_design_of_the_config(r: int) -> None:
    engine, task = Engine(), make_task(n_instances=6)
    builder = make_builder(engine)
    plan = plan_task(task, CONFIG, builder)
    other = CONFIG.model_copy(update={"instances_per_perturbation": r, "first_perturbation": 3})
    assert TaskCost.of(plan, other, builder).tail == TaskCost.of(plan, CONFIG, builder).tail


def test_costs_are_those_of_the_planned_prompts() -> None:
    engine, task = Engine(), make_task(n_instances=6)
    builder = PromptBuilder(engine.backend.tokenizer, CONFIG.prompt, engine.backend.max_model_len)
    cost = TaskCost.of(plan_task(task, CONFIG, builder), CONFIG, builder)
    whole = len(plan_task(task, CONFIG, builder).originals[0].token_ids)
    assert 0 < cost.prefix < whole
    assert cost.tail > CONFIG.max_output_tokens - 1
    assert cost.tokens(2, 3) == 4 * (cost.prefix + 2 * cost.tail)


class FailingEngine(Engine):
    """Fails at one task, from one of its answers on.

    Args:
        word: A token that only the task's prompts have.
    """

    def __init__(self, task_id: str, word: int, *, scores: int, lives: bool = True) -> None:
        super().__init__()
        self.task_id, self.word, self.left, self.lives = task_id, word, scores, lives

    def weights(self) -> WeightsState:
        if not self.lives:
            raise EngineError("no answer")
        return live(self.version)

    def score(
        self,
        tasks: Iterable[Task],
        config: ScoreConfig,
        on_skip: Callable[[SkippedTask], None] | None = None,
    ) -> Iterator[TaskScore]:
        for task in tasks:
            self.left -= task.id == self.task_id
            if task.id == self.task_id and self.left < 0:
                assert on_skip is not None
                on_skip(SkippedTask(task_id=task.id, reason="no good"))
            else:
                yield from super().score([task], config)

    def completion_logprobs(self, pairs: Sequence[TokenPair]) -> CompletionLogprobsResponse:
        failing = self.left <= 0 and any(self.word in pair.prompt_token_ids for pair in pairs)
        if failing or not self.lives:
            raise EngineError("no probability")
        return super().completion_logprobs(pairs)


RULES = RaceConfig(n_select=2, budget=60_000)


@pytest.mark.slow
@pytest.mark.parametrize("scores", [0, 1, 2])
def test_a_race_goes_on_without_a_task_at_which_the_engine_fails(scores: int) -> None:
    tasks = [make_task(f"task-{index}", n_instances=6) for index in range(6)]
    named = [one.model_copy(update={"input": f"{one.input} zebra"}) for one in tasks[3].instances]
    tasks[3] = tasks[3].model_copy(update={"instances": tuple(named)})
    tokenizer = Engine().backend.tokenizer
    word = (set(tokenizer("9 zebra")["input_ids"]) - set(tokenizer("9 snow")["input_ids"])).pop()
    answers: list[RaceAnswer] = []
    engine = FailingEngine("task-3", word, scores=scores)
    found = race(engine, tasks, RULES, skip_faulty=True, on_answer=answers.append)
    assert [task.task_id for task in found.skipped] == ["task-3"]
    assert {each.task_id for each in found.standings} == {t.id for t in tasks} - {"task-3"}
    assert len(found.selected) == 2
    for known in (0, len(answers) // 2, len(answers)):
        again = FailingEngine("task-3", word, scores=0)
        assert race(again, tasks, RULES, skip_faulty=True, answers=answers[:known]).skipped
    replayed = FailingEngine("task-3", word, scores=99)
    assert race(replayed, tasks, RULES, skip_faulty=True, answers=answers) == found
    assert not replayed.scored
    assert not replayed.columns


def test_a_task_that_was_left_out_is_an_error_where_none_is_to_be() -> None:
    tasks, answers = [make_task()], list[RaceAnswer]()
    engine = FailingEngine("colors", 0, scores=0)
    grown = make_tables(engine, tasks, skip_faulty=True, on_answer=answers.append)
    assert grown.extend([step(crossed(2, 2))]) == {}
    assert make_tables(engine, tasks, skip_faulty=True, answers=answers).skipped
    with pytest.raises(InputError, match=r"was left out as faulty in .*: no good") as told:
        make_tables(engine, tasks, answers=answers).extend([step(crossed(2, 2))])
    assert told.value.record == "colors"


def test_an_engine_that_is_dead_skips_no_task() -> None:
    tasks = [make_task(f"task-{index}", n_instances=6) for index in range(4)]
    engine = FailingEngine("none", 0, scores=0, lives=False)
    with pytest.raises(EngineError, match="no answer"):
        race(engine, tasks, RULES, skip_faulty=True)


def test_a_race_without_tasks_has_no_result() -> None:
    with pytest.raises(EngineError, match="no task could be scored"):
        race(FailingEngine("colors", 0, scores=0), [make_task()], RULES, skip_faulty=True)
