"""Order of events, resumption at every point, and records, with a fake engine and trainer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from engine.errors import EngineError, InputError
from engine.files import read_json
from engine.prompts import PromptBuilder
from engine.prompts.prompt_config import PromptConfig
from engine.protocol.score_config import SamplingConfig
from tests.engine.weights.served import SERVED
from tests.training.fakes import FakeEngine, KilledError, fake_trainer, make_pool
from tests.training.tiny import make_tokenizer
from training.config.run_config import PoolConfig, RunConfig, SelectConfig, load_config
from training.report.report_data import evaluations
from training.run.rounds import Run
from training.run.run_folder import RunFolder
from training.run.state import ROUND_STEPS, RunState, RunStep, plan
from training.run.summary import RoundMetrics, read_summary
from training.selection import parse_strategy
from training.tables.journaled_scoring import score_columns
from training.tables.score_tables import SCORE_COLUMNS

CONFIG = RunConfig.model_validate(
    {
        "model": {"name": "tiny", "max_model_len": 128},
        "score": {"max_output_tokens": 8},
        "select": {"n_tasks": 2},
        "train": {"instances_per_task": 2},
        "evaluate": {"instances_per_task": 4, "max_new_tokens": 4},
        "rounds": 2,
    }
)
BUILDER = PromptBuilder(make_tokenizer(), PromptConfig(), 128)


class DyingProgress:
    """Writes steps into the events and dies at the beginning or the end of one of them."""

    def __init__(self, events: list[str], die_at: tuple[str, int, RunStep] | None = None) -> None:
        self.events = events
        self.die_at = die_at

    def begin(self, round_index: int, step: RunStep, total: int | None, unit: str) -> None:
        self.events.append(f"begin {step} {round_index}")
        if self.die_at == ("begin", round_index, step):
            raise KilledError

    def advance(self, done: int, total: int | None = None, detail: str = "") -> None:
        pass

    def end(self, round_index: int, step: RunStep, seconds: float, summary: str) -> None:
        if self.die_at == ("end", round_index, step):
            raise KilledError


def make_run(
    folder: Path,
    engine: FakeEngine | None = None,
    *,
    config: RunConfig = CONFIG,
    die_at: tuple[str, int, RunStep] | None = None,
    pool_size: int = 6,
) -> Run:
    engine = engine or FakeEngine()
    return Run(
        RunFolder(folder),
        config,
        pool=make_pool(pool_size),
        held_out=make_pool(2, "held", "other"),
        engine=engine,
        builder=BUILDER,
        base_model="base-folder",
        progress=DyingProgress(engine.events, die_at),
        train=fake_trainer(engine.events),
    )


SAMPLED = CONFIG.model_copy(
    update={
        "score": CONFIG.score.model_copy(
            update={
                "measure": "output_disagreement",
                "sampling": SamplingConfig(n_samples=2),
            }
        ),
        "select": SelectConfig.model_validate({"n_tasks": 2, "strategy": "output_disagreement"}),
        "rounds": 1,
    }
)


def test_rounds_select_by_the_disagreement_of_sampled_outputs(tmp_path: Path) -> None:
    make_run(tmp_path, config=SAMPLED, pool_size=4).run()
    first = RunFolder(tmp_path).round(0)
    assert first.read_selection().task_ids == ("task-3", "task-2")
    assert first.read_scores()["output_disagreement"].to_list() == [0, 0.25, 0.5, 0.75]
    assert score_columns(SAMPLED.score) is None
    assert pl.read_parquet(first.questions["output_disagreement"]).height == 4 * 6
    plain = make_run(tmp_path / "plain")
    plain.run()
    assert not any(path.exists() for path in plain.folder.round(0).questions.values())
    with pytest.raises(InputError, match=r"select.strategy.*needs score.measure = 'output_dis"):
        make_run(tmp_path / "x", config=SAMPLED.model_copy(update={"score": CONFIG.score}))
    within = parse_strategy({"name": "per_category", "within": "output_disagreement"})
    hidden = CONFIG.select.model_copy(update={"strategy": within})
    with pytest.raises(InputError, match=r"'output_disagreement' needs score.measure"):
        make_run(tmp_path / "x", config=CONFIG.model_copy(update={"select": hidden}))
    unknown = parse_strategy({"name": "stratified", "column": "tpic", "shares": {"a": 1}})
    mistyped = CONFIG.select.model_copy(update={"strategy": unknown})
    with pytest.raises(InputError, match=r"select.strategy.*no column 'tpic'; there are: category"):
        make_run(tmp_path / "x", config=CONFIG.model_copy(update={"select": mistyped}))
    flips = CONFIG.select.model_copy(update={"strategy": parse_strategy("flip_rate")})
    gold = CONFIG.score.model_copy(update={"reference": "gold"})
    with pytest.raises(InputError, match=r"no column 'flip_rate'; there are: "):
        make_run(tmp_path / "x", config=CONFIG.model_copy(update={"select": flips, "score": gold}))
    assert not (tmp_path / "x").exists()


def read_records(folder: Path) -> dict[str, Any]:
    """What a run came to, without times and the random names of attempts."""
    run = RunFolder(folder)
    records: dict[str, Any] = {"before": json.loads(run.before.read_text())}
    for each in run.rounds():
        metrics = json.loads(each.metrics.read_text())
        # What depends on the machine and on what the cache held, not on what the run came to.
        del metrics["training"]["seconds"], metrics["training"]["seconds_per_step"]
        del metrics["scoring"]["tokens_reused"]
        records[f"metrics {each.index}"] = metrics
        records[f"selection {each.index}"] = json.loads(each.selection.read_text())
        if each.scores.is_file():
            records[f"scores {each.index}"] = each.read_scores().rows()
            records[f"pairs {each.index}"] = pl.read_parquet(each.pairs).rows()
        if each.checkpoint.is_dir():  # not pruned
            records[f"weights {each.index}"] = (each.checkpoint / "model.safetensors").read_bytes()
    return records


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("undisturbed")
    make_run(folder).run()
    return read_records(folder)


def test_events_come_in_order(tmp_path: Path) -> None:
    engine = FakeEngine()
    make_run(tmp_path, engine).run()
    state = read_json(RunFolder(tmp_path).state, RunState)
    first, second = state.published_version(0), state.published_version(1)
    assert first != second
    steps = [f"begin {step} {index}" for index, step in plan(2)]
    assert [event for event in engine.events if event.startswith("begin")] == steps
    told = [event for event in engine.events if not event.startswith("begin")]
    assert told == [
        "ask version",  # opening the run
        "ask version",
        "generate under base",
        "ask version",
        "ask version",
        "score 6 under base",
        "train from base-folder",
        "ask version",
        f"load {first}",
        "ask version",  # believed only after the engine has said so itself
        "ask version",
        f"generate under {first}",
        "ask version",
        "ask version",
        f"score 4 under {first}",
        "train from base-folder",
        "ask version",
        f"load {second}",
        "ask version",
        "ask version",
        f"generate under {second}",
        "ask version",
    ]


def test_records_are_complete(tmp_path: Path) -> None:
    make_run(tmp_path).run()
    run = RunFolder(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.resolved.toml",
        "tasks.json",
        "state.json",
        "before.json",
        "round-00",
        "round-01",
    }
    for each in run.rounds():
        assert {path.name for path in each.path.iterdir()} == {
            "scores.journal.jsonl",
            "scores.parquet",
            "pairs.parquet",
            "selection.json",
            "metrics.json",
            "training",
            "checkpoint",
        }
        scores = each.read_scores()
        selected = each.read_selection().task_ids
        assert len(selected) == 2
        assert set(scores.filter("selected")["task_id"]) == set(selected)
    metrics = read_json(run.round(1).metrics, RoundMetrics)
    assert metrics.training.rows.tasks == run.trained_tasks(2)
    assert len(set(metrics.training.rows.tasks)) == 4
    assert metrics.evaluation.overall.exact_match == 25.0  # blue, one of four colours
    rows = read_summary(run)
    assert [row.name for row in rows] == ["before", "round 0", "round 1"]
    assert [row.tasks_trained for row in rows] == [0, 2, 4]
    assert len({row.weights_version for row in rows}) == 3


@pytest.mark.slow
@pytest.mark.parametrize("where", ["begin", "end"])
@pytest.mark.parametrize(("index", "step"), plan(2))
def test_a_run_killed_anywhere_ends_the_same(
    tmp_path: Path, undisturbed: dict[str, Any], where: str, index: int, step: RunStep
) -> None:
    """Each start meets a fresh engine that serves the base model, as after a restart."""
    with pytest.raises(KilledError):
        make_run(tmp_path, die_at=(where, index, step)).run()
    engine = FakeEngine()
    make_run(tmp_path, engine).run()
    assert read_records(tmp_path) == undisturbed
    done_before = plan(2).index((index, step)) + (where == "end")
    begun = [event for event in engine.events if event.startswith("begin")]
    assert begun == [f"begin {name} {number}" for number, name in plan(2)[done_before:]]


@pytest.mark.parametrize("n_scores", [0, 1, 5])
def test_resumed_scoring_skips_finished_tasks(
    tmp_path: Path, undisturbed: dict[str, Any], n_scores: int
) -> None:
    with pytest.raises(KilledError):
        make_run(tmp_path, FakeEngine(die_after_scores=n_scores)).run()
    engine = FakeEngine()
    make_run(tmp_path, engine).run()
    assert f"score {6 - n_scores} under base" in engine.events
    assert read_records(tmp_path) == undisturbed


SKIPPING = CONFIG.model_copy(update={"pool": PoolConfig(skip_faulty=True)})


def test_tasks_at_which_the_engine_fails_end_the_run_or_are_left_out(tmp_path: Path) -> None:
    faulty = frozenset({"task-1", "task-4"})
    with pytest.raises(InputError, match=r"task-[14].*cannot be scored"):
        make_run(tmp_path / "strict", FakeEngine(unscorable=faulty)).run()
    make_run(tmp_path / "run", FakeEngine(unscorable=faulty), config=SKIPPING).run()
    for each in RunFolder(tmp_path / "run").rounds():
        metrics = read_json(each.metrics, RoundMetrics)
        assert set(metrics.skipped) == faulty
        assert not faulty & {*metrics.selected, *each.read_scores()["task_id"]}
        lines = [json.loads(line) for line in each.skipped.read_text().splitlines()]
        assert {line["reason"] for line in lines} == {"cannot be scored"}
        assert {line["weights_version"] for line in lines} == {
            each.read_scores()["weights_version"][0]
        }


def test_a_resumed_scoring_keeps_what_was_skipped(tmp_path: Path) -> None:
    faulty = frozenset({"task-5"})  # the first to be asked
    undisturbed = tmp_path / "undisturbed"
    make_run(undisturbed, FakeEngine(unscorable=faulty), config=SKIPPING).run()
    with pytest.raises(KilledError):
        make_run(
            tmp_path / "run", FakeEngine(unscorable=faulty, die_after_scores=2), config=SKIPPING
        ).run()
    engine = FakeEngine()  # it could do it now, and is not asked
    make_run(tmp_path / "run", engine, config=SKIPPING).run(2)
    assert "score 4 under base" in engine.events
    assert "task-5" not in RunFolder(tmp_path / "run").round(0).read_scores()["task_id"]
    make_run(tmp_path / "run", FakeEngine(unscorable=faulty), config=SKIPPING).run()
    assert read_records(tmp_path / "run") == read_records(undisturbed)


def test_a_finished_run_does_nothing_when_started_again(tmp_path: Path) -> None:
    make_run(tmp_path).run()
    engine = FakeEngine()
    make_run(tmp_path, engine).run()
    assert engine.events == ["ask version"]


def test_a_reload_that_only_claims_success_stops_the_run(tmp_path: Path) -> None:
    engine = FakeEngine(stale=True)
    with pytest.raises(EngineError, match="after the reload belongs to weights 'base'"):
        make_run(tmp_path, engine).run()
    state = read_json(RunFolder(tmp_path).state, RunState)
    assert (state.current_round, state.current_step) == (0, RunStep.RELOAD)
    assert state.live_version == "base"


def test_a_lost_score_stops_the_run(tmp_path: Path) -> None:
    engine = FakeEngine(lost_tasks=frozenset({"task-3"}))
    with pytest.raises(EngineError, match="no score for task-3"):
        make_run(tmp_path, engine).run()


def test_an_engine_with_foreign_weights_is_refused_on_resume(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        make_run(tmp_path, die_at=("begin", 0, RunStep.SCORE)).run()
    told = r"the engine belongs to weights 'other', not 'base'; jostle reload --base goes back"
    with pytest.raises(EngineError, match=told):
        make_run(tmp_path, FakeEngine(version="other")).run()


@pytest.mark.parametrize("round_index", [0, 1])
def test_an_engine_of_another_model_is_refused_before_anything_is_trained(
    tmp_path: Path, round_index: int
) -> None:
    first = FakeEngine(version=SERVED.version)
    with pytest.raises(KilledError):
        make_run(tmp_path, first, die_at=("begin", round_index, RunStep.TRAIN)).run()
    for change in ({"weights": "3" * 64}, {"max_model_len": 4096}, {"tokenizer": "3" * 64}):
        served = SERVED.model_copy(update=change)
        other = FakeEngine(version=served.version, served=served)
        with pytest.raises(InputError, match=rf"{SERVED.version}.* and .*{served.version}"):
            make_run(tmp_path, other).run()
        assert other.events == ["ask version"]


def test_another_config_or_pool_is_refused_on_resume(tmp_path: Path) -> None:
    make_run(tmp_path)
    other = CONFIG.model_copy(update={"seed": 9})
    with pytest.raises(InputError, match=r"another config.*: seed: 0 -> 9"):
        make_run(tmp_path, config=other)
    with pytest.raises(InputError, match=r"'pool_digest': .*other tasks.*: pool: task-6 is new"):
        make_run(tmp_path, pool_size=7)


def in_pieces(**fields: Any) -> RunConfig:
    return CONFIG.model_copy(update={"train": CONFIG.train.model_copy(update=fields)})


def test_a_run_goes_on_with_fewer_rows_at_once(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    """As the trainer's death for want of memory asks for; and it may change again."""
    with pytest.raises(KilledError):
        make_run(tmp_path, die_at=("begin", 0, RunStep.TRAIN)).run()
    pieces = {"batch_size": 2, "gradient_accumulation_steps": 4, "gradient_checkpointing": True}
    with pytest.raises(KilledError):
        make_run(tmp_path, config=in_pieces(**pieces), die_at=("end", 0, RunStep.TRAIN)).run()
    with pytest.raises(InputError, match=r"another config.*: train.batch_size: 2 -> 1$"):
        make_run(tmp_path, config=in_pieces(**pieces | {"batch_size": 1}))
    with pytest.raises(InputError, match=r"another config.*: train.launcher: "):
        make_run(tmp_path, config=in_pieces(launcher=("srun", "-n2")))
    stored = RunFolder(tmp_path).config
    before = stored.read_text()
    stored.write_text(before.replace("learning_rate = 1e-05", "learning_rate = 0.5"))
    other = in_pieces(learning_rate=0.5, gradient_checkpointing=True)
    with pytest.raises(InputError, match=r"config.resolved.toml has been edited"):
        make_run(tmp_path, config=other)
    stored.write_text(before)
    make_run(tmp_path).run()
    assert read_records(tmp_path) == undisturbed


def test_how_it_trains_may_be_corrected_before_the_first_training_has_ended(tmp_path: Path) -> None:
    """Scoring is not lost to a typo that the trainer dies of; validation tasks are not scored."""
    with pytest.raises(KilledError):
        make_run(tmp_path, die_at=("begin", 0, RunStep.TRAIN)).run()
    corrected = in_pieces(learning_rate=0.5, max_length=50)
    engine = FakeEngine()
    with pytest.raises(KilledError):
        make_run(tmp_path, engine, config=corrected, die_at=("end", 0, RunStep.TRAIN)).run()
    assert "score" not in " ".join(engine.events)
    assert load_config(RunFolder(tmp_path).config) == corrected
    with pytest.raises(InputError, match=r"another config.*: train.learning_rate: 0.5 -> 1e-05"):
        make_run(tmp_path)
    make_run(tmp_path, config=corrected).run()


def test_validation_tasks_without_a_row_are_told_before_anything_is_scored(tmp_path: Path) -> None:
    engine = FakeEngine()
    with pytest.raises(InputError, match="every row is longer than 5 tokens"):
        make_run(tmp_path, engine, config=in_pieces(validation_tasks=1, max_length=5))
    assert engine.events == []


def test_training_may_go_on_from_the_last_checkpoint(tmp_path: Path) -> None:
    engine = FakeEngine()
    train = CONFIG.train.model_copy(update={"start_from": "last"})
    make_run(tmp_path, engine, config=CONFIG.model_copy(update={"train": train})).run()
    assert [event for event in engine.events if event.startswith("train")] == [
        "train from base-folder",
        "train from checkpoint",
    ]
    tasks = read_json(RunFolder(tmp_path).round(1).metrics, RoundMetrics).training.rows.tasks
    assert tasks == RunFolder(tmp_path).round(1).read_selection().task_ids
    # The weights of the second round have seen the tasks of both.
    assert [row.tasks_trained for row in read_summary(RunFolder(tmp_path))] == [0, 2, 4]
    assert [trained for trained, _ in evaluations(RunFolder(tmp_path)).values()] == [0, 2, 4]


def test_a_strategy_that_takes_nothing_stops_the_run_before_it_trains(tmp_path: Path) -> None:
    engine = FakeEngine()
    nobody = parse_strategy({"name": "instruction_following_difficulty", "most": 0.0})
    select = CONFIG.select.model_copy(update={"strategy": nobody})
    with pytest.raises(InputError, match=r"takes none of the tasks|needs score.measure"):
        make_run(tmp_path, engine, config=CONFIG.model_copy(update={"select": select})).run()
    assert not [event for event in engine.events if event.startswith("train")]


def test_state_that_skips_a_step_is_refused(tmp_path: Path) -> None:
    make_run(tmp_path).run()
    run = RunFolder(tmp_path)
    values = json.loads(run.state.read_text())
    del values["completed"][3]
    run.state.write_text(json.dumps(values))
    with pytest.raises(InputError, match="not a beginning of the plan"):
        make_run(tmp_path)


def test_rounds_follow_the_order_of_the_design() -> None:
    assert [str(step) for step in ROUND_STEPS] == (
        ["score", "select", "train", "publish", "reload", "evaluate"]
    )


@pytest.mark.parametrize("name", ["per_category", "classification_share", "diverse"])
def test_strategies_know_the_tasks(tmp_path: Path, name: str) -> None:
    strategy: dict[str, Any] = {"name": name}
    if name == "classification_share":
        strategy["when_short"] = "refill"
    select = SelectConfig.model_validate({"n_tasks": 2, "strategy": strategy})
    make_run(tmp_path, config=CONFIG.model_copy(update={"select": select, "rounds": 1})).run()
    chosen = RunFolder(tmp_path).round(0).read_selection()
    assert (chosen.strategy, len(chosen.tasks)) == (name, 2)
    columns = RunFolder(tmp_path).round(0).read_scores().columns
    assert columns[: len(SCORE_COLUMNS)] == [*SCORE_COLUMNS]
    assert {*columns} == score_columns(CONFIG.score)
