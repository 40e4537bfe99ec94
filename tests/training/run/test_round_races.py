"""Rounds that are scored by a race."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from engine.design.race_plan import RaceResult
from engine.errors import InputError
from engine.files import read_json
from engine.prompts import PromptBuilder
from engine.prompts.prompt_config import PromptConfig
from engine.protocol.api import SkippedTask, TaskScore
from engine.protocol.completions import CompletionLogprobsResponse, TokenPair
from engine.protocol.score_config import ScoreConfig
from engine.tasks import Instance, Pool, Task
from tests.engine.design.test_live_race import Engine
from tests.training.fakes import FakeEngine, KilledError, fake_trainer, make_pool, make_task
from training.config.run_config import RunConfig, parse_config
from training.run.planning import plan_run
from training.run.round_races import RoundRaces
from training.run.rounds import Run
from training.run.run_folder import RunFolder
from training.run.run_pools import Pools, take_validation
from training.run.summary import RoundMetrics
from training.tables.score_tables import SCORE_COLUMNS

VALUES: dict[str, Any] = {
    "score": {"max_output_tokens": 8},
    "select": {"n_tasks": 2, "race": {"budget": 9_000}},
    "train": {"instances_per_task": 2, "validation_tasks": 1},
    "evaluate": {"instances_per_task": 4, "max_new_tokens": 4},
    "rounds": 2,
}
CONFIG = parse_config(VALUES, "run.toml")
POOL = Pool(
    [
        make_task(f"task-{number}", f"say which of the {'blue ' * number} things is what color")
        for number in range(8)
    ]
)


@dataclass
class RacingEngine(FakeEngine):
    """Scores with a model that is quickly computed, and counts its answers."""

    inner: Engine = field(default_factory=Engine)
    answers: int = 0
    die_after_answers: int | None = None

    def score(
        self,
        tasks: Iterable[Task],
        config: ScoreConfig,
        on_skip: Callable[[SkippedTask], None] | None = None,
    ) -> Iterator[TaskScore]:
        self.inner.version = self.version
        able = []
        for task in tasks:
            if task.id not in self.unscorable:
                able.append(task)
            elif on_skip is None:
                raise InputError("cannot be scored", record=task.id)
            else:
                on_skip(SkippedTask(task_id=task.id, reason="cannot be scored"))
        for score in self.inner.score(able, config):
            self._count()
            yield score

    def completion_logprobs(self, pairs: Sequence[TokenPair]) -> CompletionLogprobsResponse:
        self.inner.version = self.version
        self._count()
        return self.inner.completion_logprobs(pairs)

    def _count(self) -> None:
        if self.answers == self.die_after_answers:
            raise KilledError
        self.answers += 1


def make_builder() -> PromptBuilder:
    return PromptBuilder(Engine().backend.tokenizer, PromptConfig(), CONFIG.model.max_model_len)


def make_run(
    folder: Path, engine: RacingEngine, config: RunConfig = CONFIG, pool: Pool = POOL
) -> Run:
    return Run(
        RunFolder(folder),
        config,
        pool=pool,
        held_out=make_pool(2, "held", "other"),
        engine=engine,
        builder=make_builder(),
        base_model="base-folder",
        train=fake_trainer(engine.events),
    )


def test_each_round_races_for_the_tasks_it_trains_on(tmp_path: Path) -> None:
    make_run(tmp_path, RacingEngine()).run()
    chosen: set[str] = set()
    for each, n_left in zip(RunFolder(tmp_path).rounds(), (7, 5), strict=True):
        result, scores = read_json(each.race, RaceResult), each.read_scores()
        assert len(result.standings) == n_left
        assert result.config.budget == 9_000 >= result.tokens > 0
        assert each.read_selection().task_ids == result.selected
        assert scores.filter("selected")["task_id"].sort().to_list() == sorted(result.selected)
        assert set(SCORE_COLUMNS) <= set(scores.columns)
        assert scores["n_perturbations"].n_unique() > 1, "some got more than others"
        metrics = read_json(each.metrics, RoundMetrics)
        assert metrics.scoring == result.usage
        assert metrics.scoring.pairs > 0
        assert not chosen & set(result.selected)
        chosen |= set(result.selected)


def test_a_round_s_race_leaves_out_what_no_perturbation_changes(tmp_path: Path) -> None:
    word = make_task("task-8", "color")
    assert not word.positive_examples
    run = make_run(tmp_path, RacingEngine(), pool=Pool([*POOL, word]))
    run.run()
    for each in RunFolder(tmp_path).rounds():
        assert read_json(each.race, RaceResult).unmeasurable == ("task-8",)
        assert "task-8" not in each.read_scores()["task_id"]


def test_a_round_s_race_goes_on_without_tasks_at_which_the_engine_fails(tmp_path: Path) -> None:
    faulty = frozenset({POOL[2].id, POOL[5].id})
    with pytest.raises(InputError, match="cannot be scored"):
        make_run(tmp_path / "strict", RacingEngine(unscorable=faulty)).run()
    skipping = parse_config(VALUES | {"pool": {"skip_faulty": True}}, "run.toml")
    dying = RacingEngine(unscorable=faulty, die_after_answers=20)
    with pytest.raises(KilledError):
        make_run(tmp_path / "run", dying, skipping).run()
    make_run(tmp_path / "run", RacingEngine(unscorable=faulty), skipping).run()
    for each in RunFolder(tmp_path / "run").rounds():
        skipped = {task.task_id for task in read_json(each.race, RaceResult).skipped}
        assert skipped == set(read_json(each.metrics, RoundMetrics).skipped) == faulty
        assert len(each.skipped.read_text().splitlines()) == len(faulty)
        assert not faulty & {*each.read_scores()["task_id"], *each.read_selection().task_ids}


def test_a_round_s_race_without_a_task_that_can_be_measured_is_refused(tmp_path: Path) -> None:
    races = RoundRaces(Pool([*POOL, make_task("task-8", "color")]), CONFIG, make_builder())
    with pytest.raises(InputError, match=r"'select.race': no task that could be measured is left"):
        races.race([make_task("task-8", "color")])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """The folder of a run that nothing happened to, and how many answers it took."""
    engine, folder = RacingEngine(), tmp_path_factory.mktemp("whole")
    make_run(folder, engine).run()
    return folder, engine.answers


# The first race has some 50 answers, the second one some 40.
@pytest.mark.slow
@pytest.mark.parametrize("die_after", [0, 3, 9, 15, 60, 80])
def test_a_race_goes_on_after_the_process_died(
    die_after: int, whole: tuple[Path, int], tmp_path: Path
) -> None:
    undisturbed, answers = whole
    assert answers > die_after
    dying, second = RacingEngine(die_after_answers=die_after), RacingEngine()
    with pytest.raises(KilledError):
        make_run(tmp_path / "broken", dying).run()
    make_run(tmp_path / "broken", second).run()
    assert dying.answers + second.answers == answers, "nothing is asked twice"
    rounds = (RunFolder(folder).rounds() for folder in (undisturbed, tmp_path / "broken"))
    for one, other in zip(*rounds, strict=True):
        assert (
            one.read_scores()
            .drop("weights_version")
            .equals(other.read_scores().drop("weights_version"))
        )
        assert read_json(one.race, RaceResult) == read_json(other.race, RaceResult)


def test_other_strategies_choose_from_what_the_race_measured(tmp_path: Path) -> None:
    select = CONFIG.select.model_copy(update={"n_tasks": 3})
    values = VALUES | {"select": select.model_dump() | {"strategy": "perplexity"}, "rounds": 1}
    make_run(tmp_path, RacingEngine(), parse_config(values, "run.toml")).run()
    first = RunFolder(tmp_path).round(0)
    ranked = first.read_scores().sort("perplexity", descending=True)["task_id"]
    assert first.read_selection().task_ids == tuple(ranked[:3])


def test_nothing_is_selected_before_the_selection(tmp_path: Path) -> None:
    make_run(tmp_path, RacingEngine()).run(2)  # the evaluation of the base model, and the race
    scores = RunFolder(tmp_path).round(0).read_scores()
    assert scores["selected"].is_null().all()
    assert scores.columns[: len(SCORE_COLUMNS)] == list(SCORE_COLUMNS)


def test_tasks_of_an_initial_round_need_not_be_paid_for(tmp_path: Path) -> None:
    values = VALUES | {
        "select": {"n_tasks": 1, "race": {"budget": 700}},
        "initial": {"n_tasks": 4},
        "rounds": 1,
    }
    make_run(tmp_path / "some", RacingEngine(), parse_config(values, "run.toml")).run()
    result = read_json(RunFolder(tmp_path / "some").round(1).race, RaceResult)
    assert len(result.standings) == 3
    with pytest.raises(InputError, match="first pairs of all tasks cost"):
        make_run(
            tmp_path / "all", RacingEngine(), parse_config(values | {"initial": {}}, "run.toml")
        )


def test_an_instance_that_a_race_could_not_score_is_found_before_it_starts(tmp_path: Path) -> None:
    broken = POOL[3].model_copy(
        update={
            "instances": (
                *POOL[3].instances,
                Instance(id="long", input="blue " * 3_000, outputs=("a",)),
            )
        }
    )
    tasks = [broken if task.id == broken.id else task for task in POOL]
    with pytest.raises(InputError, match=r"task-3/long"):
        RoundRaces(Pool(tasks), CONFIG, make_builder())


def test_a_budget_that_does_not_pay_for_the_start_is_refused(tmp_path: Path) -> None:
    values = VALUES | {"select": {"n_tasks": 2, "race": {"budget": 100}}}
    poor = parse_config(values, "run.toml")
    with pytest.raises(InputError, match=r"select\.race\.budget.*first pairs of all tasks cost"):
        make_run(tmp_path / "run", RacingEngine(), poor)
    assert not (tmp_path / "run").exists()


LOW = {"name": "prompt_uncertainty", "direction": "low"}


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"score": {"measure": "label_bald"}}, "score.measure.*a race goes by prompt_uncertainty"),
        (
            {"score": {"perturbation": {"name": "paraphrase"}}},
            "score.perturbation.*a race cannot ask for paraphrases",
        ),
        (
            {"select": VALUES["select"] | {"strategy": LOW}},
            "select.strategy.direction.*a race is for the most uncertain",
        ),
    ],
)
def test_what_cannot_be_raced_for_is_refused(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=rf"run\.toml.*{problem}"):
        parse_config(VALUES | values, "run.toml")


def test_a_plan_tells_about_how_many_pairs_the_budget_pays_for(tmp_path: Path) -> None:
    engine = RacingEngine()
    make_run(tmp_path / "run", engine).run()
    pools = Pools(POOL, make_pool(2, "held", "other"), "as given")
    builder = make_builder()
    races = RoundRaces(take_validation(POOL, 1, CONFIG.evaluate.seed)[0], CONFIG, builder)
    plan = plan_run(CONFIG, pools, builder, races, location="somewhere", run_dir=tmp_path)
    for each, planned in zip(RunFolder(tmp_path / "run").rounds(), plan.rounds, strict=True):
        standings = read_json(each.race, RaceResult).standings
        scored = sum(standing.pairs for standing in standings)
        assert (planned.tasks, planned.score_tokens) == (len(standings), 9_000)
        assert scored / 1.5 < planned.pairs < scored * 1.5
