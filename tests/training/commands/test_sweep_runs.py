"""Equal steps of a sweep are done once."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from engine.errors import InputError
from engine.pools.writing import write_pool
from engine.tasks import Pool
from engine.weights.models import BUNDLED_MODEL
from tests.training.fakes import FakeEngine, KilledError, fake_trainer, make_pool
from tests.training.run.test_base_model import begin, place_model
from tests.training.run.test_initial_and_pruning import INITIAL
from tests.training.run.test_rounds import BUILDER, CONFIG
from training.commands import sweep_runs
from training.commands.launch import OpenEngine
from training.commands.sweep_runs import (
    curve_table,
    kept_engine,
    run_folder,
    run_sweep,
    shared_folder,
    shared_steps,
)
from training.config.run_config import EngineConfig, PoolConfig, RunConfig
from training.report.display import RichProgress
from training.run.rounds import Run
from training.run.run_folder import RunFolder
from training.run.run_pools import Pools
from training.run.state import RunState, read_state, save_state
from training.selection import parse_strategy

PROGRESS = RichProgress(Console(file=io.StringIO()))


def on_files(config: RunConfig, folder: Path) -> RunConfig:
    """The config on pools of 6 tasks and of 2 that are held out."""
    chosen = {"path": "pool.jsonl", "held_out": "held.jsonl"}
    paths = {name: str(folder / file) for name, file in chosen.items()}
    if not Path(paths["path"]).exists():
        write_pool(make_pool(6), Path(paths["path"]))
        write_pool(make_pool(2, "held", "other"), Path(paths["held_out"]))
    return config.model_copy(update={"pool": PoolConfig.model_validate(paths)})


class Runs:
    """Runs on fakes, a fresh engine each, with the pools it is given; can die after a number."""

    def __init__(self, die_at: int | None = None) -> None:
        self.events: list[str] = []
        self.started = 0
        self.die_at = die_at

    def __call__(
        self,
        folder: RunFolder,
        config: RunConfig,
        pools: Pools,
        progress: RichProgress,
        *,
        location: str = "base-folder",
        n_steps: int | None = None,
        engine: OpenEngine | None = None,
    ) -> None:
        assert engine is not None
        if self.started == self.die_at:
            raise KilledError
        self.started += 1
        Run(
            folder,
            config,
            pool=pools.pool,
            held_out=pools.held_out,
            engine=FakeEngine(events=self.events),
            builder=BUILDER,
            base_model=location,
            train=fake_trainer(self.events),
        ).run(n_steps)

    def count(self, what: str) -> int:
        return sum(event.startswith(what) for event in self.events)


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is asked where a model is."""
    monkeypatch.setattr("training.run.base_model.resolve_model", lambda name: name)


STRATEGIES = ["prompt_uncertainty", "random"]


def test_the_shared_first_round_is_trained_once_per_seed(tmp_path: Path) -> None:
    runs = Runs()
    strategies = [*STRATEGIES, "perplexity"]
    result = run_sweep(on_files(INITIAL, tmp_path), strategies, [0, 1], tmp_path, PROGRESS, runs)
    # Per seed: the initial round once, then two rounds for each strategy.
    assert runs.count("train") == 2 * (1 + 3 * 2)
    assert runs.count("score 4") == 2  # the first scoring is shared too
    assert runs.count("generate under base") == 2
    for seed in (0, 1):
        first, *others = (run_folder(tmp_path, name, seed).round(0) for name in strategies)
        for other in others:
            assert first.read_selection().task_ids == other.read_selection().task_ids
            one, two = (each.checkpoint / "model.safetensors" for each in (first, other))
            assert one.samefile(two)
    rouge = [row for row in result["curves"] if row["metric"] == "ROUGE-L"]
    ordered = ["random", *(name for name in strategies if name != "random")]
    assert [row["run"] for row in rouge] == [name for name in ordered for _ in range(4)]
    assert [row["trained"] for row in rouge[:4]] == [0, 2, 3, 4]
    assert json.loads((tmp_path / "sweep.json").read_text()) == result
    console = Console(file=io.StringIO(), width=80)
    console.print(curve_table(result["curves"], 2))
    assert isinstance(console.file, io.StringIO)
    shown = [" ".join(line.split()) for line in console.file.getvalue().splitlines()]
    assert shown[0] == "Held-out tasks, least to largest of 2 seeds"
    assert "perplexity 2 tasks 25.0 (25.0 to 25.0) 25.0 (25.0 to 25.0)" in shown


def test_without_an_initial_round_the_first_scoring_is_shared(tmp_path: Path) -> None:
    runs = Runs()
    run_sweep(on_files(CONFIG, tmp_path), STRATEGIES, [0], tmp_path, PROGRESS, runs)
    assert shared_steps(CONFIG) == 2
    assert runs.count("score 6") == 1
    assert runs.count("train") == 4


@pytest.mark.slow
@pytest.mark.parametrize("die_at", [1, 2, 4])
def test_an_interrupted_sweep_goes_on(tmp_path: Path, die_at: int) -> None:
    whole = run_sweep(
        on_files(INITIAL, tmp_path), STRATEGIES, [0, 1], tmp_path / "whole", PROGRESS, Runs()
    )
    runs = Runs(die_at)
    with pytest.raises(KilledError):
        run_sweep(on_files(INITIAL, tmp_path), STRATEGIES, [0, 1], tmp_path / "cut", PROGRESS, runs)
    half = tmp_path / "cut" / "random-seed-1" / "round-00"
    half.mkdir(parents=True, exist_ok=True)  # as if killed while copying
    runs.die_at = None
    assert (
        run_sweep(on_files(INITIAL, tmp_path), STRATEGIES, [0, 1], tmp_path / "cut", PROGRESS, runs)
        == whole
    )
    assert runs.count("train") == 10


def test_wrong_names_are_told_before_anything_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs()
    with pytest.raises(InputError, match="unknown strategy 'luck'"):
        run_sweep(on_files(CONFIG, tmp_path), ["random", "luck"], [0], tmp_path, PROGRESS, runs)
    with pytest.raises(InputError, match="different names"):
        run_sweep(on_files(CONFIG, tmp_path), ["random"], [0, 0], tmp_path, PROGRESS, runs)
    with pytest.raises(InputError, match="sweep, field 'seed': Input should be greater"):
        run_sweep(on_files(CONFIG, tmp_path), ["random"], [0, -1], tmp_path, PROGRESS, runs)
    config = on_files(CONFIG, tmp_path)
    share = parse_strategy({"name": "classification_share", "share": 1.0})
    select = config.select.model_copy(update={"strategy": share})
    config, names = config.model_copy(update={"select": select}), ["random", share.name]
    with pytest.raises(InputError, match="'true' is to have 2 of 2 tasks in each of 2 rounds"):
        run_sweep(config, names, [0], tmp_path, PROGRESS, runs)

    def too_few(_: Pool, config: RunConfig) -> None:
        if config.seed == 2:
            raise InputError("too few")

    monkeypatch.setattr(sweep_runs, "check_supply", too_few)
    with pytest.raises(InputError, match="too few"):
        run_sweep(on_files(CONFIG, tmp_path), ["random"], [0, 2], tmp_path, PROGRESS, runs)
    assert not runs.events


def test_what_comes_is_trained_as_what_has_been(tmp_path: Path) -> None:
    """Shared steps that hold no training do not tell; the table would call it a difference."""
    config, folder, runs = on_files(CONFIG, tmp_path), tmp_path / "sweep", Runs()
    run_sweep(config, ["random"], [0], folder, PROGRESS, runs)
    events = [*runs.events]
    train = config.train.model_copy(update={"learning_rate": 0.5})
    other = config.model_copy(update={"train": train})
    for strategy, seed in (("prompt_uncertainty", 0), ("random", 1)):
        with pytest.raises(InputError, match=r"random-seed-0.*train.learning_rate: 1e-05 -> 0.5"):
            run_sweep(other, [strategy], [seed], folder, PROGRESS, runs)
    assert runs.events == events
    run_sweep(config, ["random", "prompt_uncertainty"], [0, 1], folder, PROGRESS, runs)


def test_shared_steps_that_went_on_by_themselves_are_not_forked(tmp_path: Path) -> None:
    """As by `jostle run` in their folder, which then selects at random."""
    runs, config = Runs(1), on_files(CONFIG, tmp_path)
    with pytest.raises(KilledError):
        run_sweep(config, STRATEGIES, [0], tmp_path / "sweep", PROGRESS, runs)
    shared = shared_folder(tmp_path / "sweep", 0)
    state = read_state(shared)
    save_state(shared, state.complete(1.0, "base"))
    with pytest.raises(InputError, match=r"shared-seed-0: has gone on by itself, past the steps"):
        run_sweep(config, STRATEGIES, [0], tmp_path / "sweep", PROGRESS, Runs())
    assert not run_folder(tmp_path / "sweep", STRATEGIES[1], 0).path.exists()


def test_a_full_disk_while_steps_are_copied_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path, *, copy: bool) -> None:
        raise OSError(28, "No space left on device", str(source))

    monkeypatch.setattr("training.commands.sweep_runs.link_or_copy", refuse)
    told = r"uncertainty-seed-0: cannot be written: .*No space left on device.*; nothing is lost"
    with pytest.raises(InputError, match=told):
        run_sweep(on_files(CONFIG, tmp_path), STRATEGIES, [0], tmp_path, PROGRESS, Runs())


def test_every_run_has_the_pools_of_its_seed(tmp_path: Path) -> None:
    """Which tasks are scored is drawn with the run's seed; what runs are compared on is not."""
    config = on_files(INITIAL, tmp_path)
    drawn = config.model_copy(update={"pool": config.pool.model_copy(update={"max_tasks": 4})})
    seen: dict[str, tuple[list[str], list[str]]] = {}

    def look(folder: RunFolder, config: RunConfig, pools: Pools, *_: object, **__: object) -> None:
        seen[folder.path.name] = ([t.id for t in pools.pool], [t.id for t in pools.held_out])
        Runs()(folder, config, pools, PROGRESS, **__)  # type: ignore[arg-type]

    run_sweep(drawn, STRATEGIES, [0, 1, 2], tmp_path / "sweep", PROGRESS, look)
    scored = {name: tasks for name, (tasks, _) in seen.items()}
    assert all(len(tasks) == 4 for tasks in scored.values())
    for seed in range(3):
        names = (f"shared-seed-{seed}", *(f"{name}-seed-{seed}" for name in STRATEGIES))
        assert len({tuple(scored[name]) for name in names}) == 1
    assert len({tuple(tasks) for tasks in scored.values()}) > 1
    assert {tuple(held) for _, held in seen.values()} == {("held-0", "held-1")}


def test_all_seeds_start_from_the_model_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the model's name leads when a sweep goes on."""
    first, second = place_model(tmp_path / "first"), place_model(tmp_path / "second", 2)
    named = CONFIG.model.model_copy(update={"name": BUNDLED_MODEL})
    config = on_files(CONFIG.model_copy(update={"model": named}), tmp_path)
    seen: list[str] = []

    def begun(folder: RunFolder, *_: object, location: str, **__: object) -> None:
        seen.append(location)
        begin(folder.path, Path(location))
        raise KilledError

    for found in (first, second):
        monkeypatch.setattr(
            "training.run.base_model.resolve_model", lambda name, found=found: found
        )
        with pytest.raises(KilledError):
            run_sweep(config, STRATEGIES, [0, 1], tmp_path / "sweep", PROGRESS, begun)
    assert seen == [str(first)] * 2


def reloaded(state: RunState) -> RunState:
    """As it is after the first reload."""
    while state.live_round is None:
        state = state.complete(1.0, "round-00-abc")
    return state


@pytest.mark.parametrize(
    ("urls", "begun", "run", "goes_back"),
    [
        (("http://a:1",), True, "none", True),
        (("http://a:1",), True, "forked", True),
        (("http://a:1",), True, "reloaded", False),  # its own weights are loaded anyway
        (("http://a:1",), False, "none", False),  # nobody asked for it: the run is refused
        ((), True, "none", False),
    ],
)
def test_a_sweep_that_goes_on_finds_the_base_model(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    urls: tuple[str, ...],
    begun: bool,
    run: str,
    goes_back: bool,
) -> None:
    engine, events = FakeEngine(version="round-01-abc"), list[str]()
    config = CONFIG.model_copy(update={"engine": EngineConfig(urls=urls)})

    @contextmanager
    def opened(*_: object) -> Iterator[object]:
        yield engine, fake_trainer(events)

    monkeypatch.setattr("training.commands.sweep_runs.open_engine", opened)
    model = place_model(tmp_path / "model")
    if begun:
        begin(tmp_path / "sweep" / "shared-seed-0", model)
    folder = RunFolder(tmp_path / "sweep" / "random-seed-1")
    if run != "none":
        state = begin(folder.path, model)
        save_state(folder, reloaded(state) if run == "reloaded" else state)
    base = engine.served.version
    with kept_engine(RunFolder(tmp_path / "sweep")) as open_one:
        with open_one("base-folder", folder, config, PROGRESS):
            assert (engine.version == base) == goes_back
        engine.version = "round-01-abc"
        with open_one("base-folder", folder, config, PROGRESS):
            assert engine.version == base, "every other finds it"
