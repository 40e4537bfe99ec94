"""Commands as functions: plans, runs and single steps, with a stand-in for engine and trainer."""

from __future__ import annotations

import io
import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import save_file

from engine.errors import EngineError, InputError
from engine.pools import open_pool
from engine.process.gpu_memory import GIB, Gpu
from engine.protocol.completions import TokenPair
from engine.weights.identity import weights_identity
from tests.engine.client.canned_server import Answer, Server
from tests.engine.weights.served import live
from tests.training.fakes import FakeEngine, KilledError, fake_trainer, make_pool, make_task
from tests.training.run.test_kills import write_pool
from tests.training.tiny import make_tokenizer
from training.commands import launch
from training.commands import run_command as commands
from training.commands import single_step as single
from training.commands.run_status import read_status
from training.commands.sweep_runs import run_sweep
from training.config.config_file import read_config
from training.config.run_config import ModelConfig, RunConfig
from training.config.train_config import TrainConfig
from training.evaluation.evaluator import Output
from training.evaluation.judge import read_outputs
from training.report.display import RichProgress, evaluation_table
from training.report.report_data import Rows
from training.run.device_plan import DevicePlan
from training.run.fleet import Fleet
from training.run.run_folder import RunFolder
from training.run.run_pools import Pools
from training.tables.lock import RunLock
from training.trainer.trainer_process import TrainJob

CONFIG = """
rounds = 1
[model]
name = "{folder}/model"
max_model_len = 256
[pool]
path = "{folder}/pool"
held_out = "{folder}/held"
[initial]
n_tasks = 2
[score]
n_instances = 2
n_perturbations = 3
max_output_tokens = 8
[select]
n_tasks = 2
[train]
instances_per_task = 2
[evaluate]
max_new_tokens = 4
"""


class FakeProcess:
    """In the place of `EngineProcess`: counts starts and stops."""

    events: list[str]
    fails = died = False
    url = "http://127.0.0.1:1"
    options: dict[str, Any]

    @classmethod
    def start(cls, model: str, **options: Any) -> FakeProcess:
        cls.events.append("start")
        cls.options = options
        return cls()

    def wait_ready(self, on_wait: Any) -> None:
        on_wait(1.0)
        if self.fails:
            raise EngineError("did not answer")

    def explained(self, error: EngineError) -> EngineError | None:
        return EngineError(f"{error}; out of memory") if self.died else None

    def stop(self) -> None:
        self.events.append("stop")


def write_config(folder: Path) -> Path:
    """A run's config, with a model and two pools to go with it."""
    write_pool(folder / "pool", 8)
    write_pool(folder / "held", 2)
    make_tokenizer().save_pretrained(folder / "model")
    (folder / "model" / "config.json").write_text('{"model_type": "llama"}')
    save_file({"w": np.zeros(1000, np.uint8)}, folder / "model" / "model.safetensors")
    path = folder / "config.toml"
    path.write_text(CONFIG.format(folder=folder))
    return path


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    return write_config(tmp_path)


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """An engine of its own that is a fake, and a fake trainer."""
    engine = FakeEngine()
    process = type("Process", (FakeProcess,), {"events": engine.events, "fails": False})
    monkeypatch.setattr(launch, "EngineProcess", process)
    monkeypatch.setattr(launch.OwnEngine, "client", property(lambda self: engine))
    monkeypatch.setattr(launch, "run_trainer", fake_trainer(engine.events))
    return engine


def silent() -> Console:
    return Console(file=io.StringIO(), width=100)


def test_a_dry_run_counts_and_writes_nothing_but_the_config(
    config_file: Path, tmp_path: Path
) -> None:
    console = silent()
    config, plan = commands.plan_from_file(
        config_file,
        run_dir=tmp_path / "run",
        overrides=[
            "train.epochs=2",
            "score.measure=output_disagreement",
            "score.sampling.n_samples=3",
        ],
        pairs_per_second=10.0,
        console=console,
    )
    assert [each.tasks for each in plan.rounds] == [0, 6]
    assert [each.pairs for each in plan.rounds] == [0, 6 * 2 * 4]
    assert [each.samples for each in plan.rounds] == [0, 6 * 2 * 4 * 3]
    assert [each.train_rows for each in plan.rounds] == [4, 8]
    assert plan.rounds[1].train_tokens == 2 * plan.rounds[0].train_tokens > 0
    assert [each.evaluate_prompts for each in plan.rounds] == [6, 6]
    # 48 pairs and 144 samples, and a trained token costs three.
    trained = 3 * sum(each.train_tokens for each in plan.rounds)
    scored = plan.rounds[1].score_tokens
    assert plan.seconds == pytest.approx(19.2 * (1 + trained / scored), rel=0.01)
    assert plan.disk_bytes is not None
    assert plan.disk_bytes >= 3 * 4 * 1000
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.planned.toml"]
    assert read_config(tmp_path / "run" / "config.planned.toml") == config
    assert isinstance(console.file, io.StringIO)
    assert "GB are free" in console.file.getvalue()
    assert "samples" in console.file.getvalue()


@pytest.mark.parametrize(
    ("overrides", "gpus", "bytes_per_weight"),
    [
        ([], 0, 3 * 4),  # two rounds and one that is being written, in float32 on a CPU
        ([], 1, 3 * 2),
        (["train.precision=bfloat16"], 0, 3 * 2),
        (["checkpoints.keep_last=1", "checkpoints.keep_best=false"], 0, 2 * 4),
        (["train.checkpoint_steps=1"], 0, 3 * 4 + 2 * 12),  # weights and two moments in float32
        (["train.validation_tasks=1", "train.precision=bfloat16"], 0, 3 * 2 + 3 * 12),
        (["train.checkpoint_steps=1", "train.lora.rank=2"], 0, 3 * 4),
    ],
)
def test_a_dry_run_counts_what_is_kept_on_disk(
    config_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    overrides: list[str],
    gpus: int,
    bytes_per_weight: int,
) -> None:
    for module in ("training.run.planning", "training.commands.launch"):
        monkeypatch.setattr(f"{module}.visible_gpus", lambda: (Gpu("GPU", None, None),) * gpus)
    file, console = tmp_path / "model" / "model.safetensors", silent()

    def planned() -> int | None:
        run = tmp_path / "run"
        _, plan = commands.plan_from_file(
            config_file, run_dir=run, overrides=overrides, console=console
        )
        return plan.disk_bytes

    few = planned()
    save_file({"w": np.zeros(2000, np.float16)}, file)
    many = planned()
    assert few is not None
    assert many is not None
    assert many - few == 1000 * bytes_per_weight
    file.rename(file.with_name("model.bin"))
    assert planned() is None
    assert isinstance(console.file, io.StringIO)
    assert "disk     unknown: no safetensors file of the model" in console.file.getvalue()


def test_a_dry_run_says_how_a_gpu_is_shared(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "visible_gpus", lambda: (Gpu("GPU", 24 * GIB, 0),) * 2)
    console = silent()
    commands.plan_from_file(config_file, run_dir=tmp_path / "run", console=console)
    assert isinstance(console.file, io.StringIO)
    assert "the engine is stopped while the trainer works" in console.file.getvalue()


def test_a_run_starts_its_engine_and_ends_it(
    config_file: Path, tmp_path: Path, fakes: FakeEngine
) -> None:
    rows = commands.run_from_file(config_file, run_dir=tmp_path / "run", console=silent())
    assert [row.name for row in rows] == ["before", "round 0", "round 1"]
    assert (fakes.events[0], fakes.events[-1]) == ("start", "stop")
    assert read_status(RunFolder(tmp_path / "run")).finished
    fakes.events.clear()
    commands.run_from_file(config_file, run_dir=tmp_path / "run", console=silent())
    assert fakes.events == []  # a finished run needs no engine


@pytest.mark.slow
def test_a_sweep_starts_one_engine_for_all_its_runs(
    config_file: Path, tmp_path: Path, fakes: FakeEngine
) -> None:
    """Every run begins with the base model, whatever the one before left in the engine."""
    weights = weights_identity(tmp_path / "model")
    fakes.served = fakes.served.model_copy(update={"weights": weights})
    fakes.version = fakes.served.version
    config = read_config(config_file)
    progress = RichProgress(silent())

    def sweep() -> dict[str, Rows]:
        names = ["prompt_uncertainty", "random"]
        return run_sweep(config, names, [0], tmp_path / "sweep", progress, launch.run_config)

    result = sweep()
    assert [event for event in fakes.events if event in ("start", "stop")] == ["start", "stop"]
    assert (fakes.events[0], fakes.events[-1]) == ("start", "stop")
    base = fakes.served.version
    assert fakes.events.count(f"load {base}") == 2  # three runs, the first finds it
    assert fakes.events.count(f"score 6 under {base}") == 0
    assert [row["pair"] for row in result["differences"]] == [
        "prompt_uncertainty less random, 2 tasks",
        "prompt_uncertainty less random, 4 tasks",
    ]
    assert {row["value"] for row in result["differences"]} == {0.0}
    fakes.events.clear()
    assert sweep() == result
    assert fakes.events == []  # a finished sweep needs no engine


def test_another_config_is_refused_before_an_engine_is_started(
    config_file: Path, tmp_path: Path, fakes: FakeEngine
) -> None:
    commands.run_from_file(config_file, run_dir=tmp_path / "run", console=silent())
    fakes.events.clear()
    with pytest.raises(InputError, match=r"train.epochs: 1.0 -> 3.0"):
        commands.run_from_file(
            config_file, run_dir=tmp_path / "run", overrides=["train.epochs=3"], console=silent()
        )
    with RunLock(tmp_path / "run" / "run.lock"), pytest.raises(InputError, match="works on this"):
        commands.run_from_file(config_file, run_dir=tmp_path / "run", console=silent())
    assert fakes.events == []


def test_a_refused_start_leaves_the_list_of_what_was_left_out(
    config_file: Path, tmp_path: Path, fakes: FakeEngine
) -> None:
    def run(*overrides: str) -> None:
        commands.run_from_file(
            config_file,
            run_dir=tmp_path / "run",
            overrides=["pool.skip_faulty=true", *overrides],
            console=silent(),
        )

    run()
    skipped = tmp_path / "run" / "skipped.jsonl"
    skipped.write_text("as it was\n")
    with pytest.raises(InputError, match=r"evaluate.max_new_tokens: 4 -> 200"):
        run("evaluate.max_new_tokens=200")
    assert skipped.read_text() == "as it was\n"


def test_a_context_longer_than_the_model_s_names_the_field_of_the_config(
    config_file: Path, tmp_path: Path, fakes: FakeEngine
) -> None:
    (tmp_path / "model" / "config.json").write_text('{"n_positions": 128}')
    for go in (commands.run_from_file, commands.plan_from_file):
        with pytest.raises(InputError, match=r"^field 'model.max_model_len': is 256; .* holds 128"):
            go(config_file, run_dir=tmp_path / "run", console=silent())
    commands.run_from_file(
        config_file,
        run_dir=tmp_path / "run",
        overrides=["engine.flags=['--max-model-len=128']"],
        console=silent(),
    )
    assert fakes.events[0] == "start"


def test_the_engine_may_stop_while_the_trainer_works(
    config_file: Path, tmp_path: Path, fakes: FakeEngine
) -> None:
    commands.run_from_file(
        config_file,
        run_dir=tmp_path / "run",
        overrides=["engine.while_training=stop"],
        console=silent(),
    )
    order = [event.split()[0] for event in fakes.events if event.split()[0] in STOPS]
    assert order == ["start", *["stop", "train", "start"] * 2, "stop"]


def test_an_engine_that_does_not_start_after_the_training_costs_no_training(
    config_file: Path, tmp_path: Path, fakes: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    process: Any = launch.EngineProcess  # type: ignore[attr-defined]
    train = fake_trainer(fakes.events)

    def last_start(job: TrainJob, **options: Any) -> Any:
        process.fails = True
        return train(job, **options)

    def run() -> None:
        commands.run_from_file(
            config_file,
            run_dir=tmp_path / "run",
            overrides=["engine.while_training=stop"],
            console=silent(),
        )

    monkeypatch.setattr(launch, "run_trainer", last_start)
    with pytest.raises(EngineError, match="did not answer"):
        run()
    process.fails = False
    monkeypatch.setattr(launch, "run_trainer", train)
    run()
    assert fakes.events.count("train from model") == 2, "one each round"


def test_a_model_that_was_replaced_is_told_before_the_engine_is_started(
    config_file: Path, tmp_path: Path, fakes: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = weights_identity(tmp_path / "model")
    fakes.served = fakes.served.model_copy(update={"weights": weights})
    fakes.version = fakes.served.version

    def killed(job: TrainJob, **options: Any) -> Any:
        raise KilledError

    with monkeypatch.context() as dying:
        dying.setattr(launch, "run_trainer", killed)
        with pytest.raises(KilledError):
            commands.run_from_file(config_file, run_dir=tmp_path / "run", console=silent())
    fakes.events.clear()
    file = tmp_path / "model" / "model.safetensors"
    save_file({"w": np.ones(1000, np.uint8)}, file)
    with pytest.raises(InputError, match=r"field 'model.name': .*model holds other weights"):
        commands.run_from_file(config_file, run_dir=tmp_path / "run", console=silent())
    assert fakes.events == []
    save_file({"w": np.zeros(1000, np.uint8)}, file)
    commands.run_from_file(config_file, run_dir=tmp_path / "run", console=silent())


STOPS = ("start", "stop", "train")


def some_job() -> TrainJob:
    nowhere = Path()
    return TrainJob(
        model="m",
        config=TrainConfig(),
        rows=nowhere,
        attempt=nowhere,
        probes=(TokenPair(prompt_token_ids=(1,), completion_token_ids=(2,)),),
        output=nowhere,
        progress=nowhere,
        result=nowhere,
    )


def test_the_client_goes_with_an_engine_that_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def serve(version: str) -> Server:
        server = Server()
        server.answer = lambda _: Answer(chunks=[live(version).model_dump_json().encode()])
        return server

    servers = [serve("v0"), serve("v1")]
    urls = iter([server.url for server in servers])

    class Process(FakeProcess):
        def __init__(self) -> None:
            self.url = next(urls)

    monkeypatch.setattr(FakeProcess, "events", [], raising=False)
    monkeypatch.setattr(launch, "EngineProcess", Process)
    monkeypatch.setattr(launch, "run_trainer", lambda job: trained.append(job))
    trained: list[Any] = []
    plan = DevicePlan("stop", 0.5, TrainConfig(batch_size=1, gradient_accumulation_steps=8))
    files = launch.EngineFiles(tmp_path / "log", tmp_path / "paraphrases")
    progress = RichProgress(silent())
    with launch.OwnEngine("m", ModelConfig(), files, progress, plan=plan) as own:
        client = own.client
        assert client.weights().version == "v0"
        servers[0].close()
        own.train(some_job())
        assert client.weights().version == "v1"
    assert [(each.model, each.config) for each in trained] == [("m", plan.train)]
    assert "--gpu-memory-utilization=0.5" in Process.options["extra_args"]
    servers[1].close()


@pytest.mark.parametrize("died", [True, False])
def test_an_engine_that_died_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, died: bool
) -> None:
    process = type("Process", (FakeProcess,), {"events": [], "died": died})
    monkeypatch.setattr(launch, "EngineProcess", process)
    files = launch.EngineFiles(tmp_path / "log", tmp_path / "paraphrases")
    own = launch.OwnEngine("m", ModelConfig(), files, RichProgress(silent()))
    with pytest.raises(EngineError) as told, own:
        raise EngineError("it is gone")
    assert str(told.value) == ("it is gone; out of memory" if died else "it is gone")


def test_every_run_of_a_sweep_trains_with_its_own_seed() -> None:
    planned = TrainConfig(batch_size=1, gradient_accumulation_steps=8, gradient_checkpointing=True)
    plan = DevicePlan("keep", None, planned)
    assert plan.in_pieces(TrainConfig(seed=3)) == planned.model_copy(update={"seed": 3})


@pytest.mark.parametrize(
    ("refused", "order"),
    [
        ("", ["start", "DELETE", "train", "PUT", "stop"]),
        ("DELETE", ["start", "DELETE", "stop", "train", "start", "stop"]),
        ("PUT", ["start", "DELETE", "train", "PUT", "stop", "start", "stop"]),
    ],
)
def test_an_engine_that_does_not_sleep_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str, order: list[str]
) -> None:
    server, events = Server(), list[str]()

    def answer(request: Any) -> Answer:
        events.append(request.method)
        status = 500 if request.method == refused else 200
        return Answer(chunks=[live("v0").model_dump_json().encode()], status=status)

    server.answer = answer
    process = type("Process", (FakeProcess,), {"events": events, "url": server.url})
    monkeypatch.setattr(launch, "EngineProcess", process)
    monkeypatch.setattr(launch, "run_trainer", lambda job: events.append("train"))
    files = launch.EngineFiles(tmp_path / "log", tmp_path / "paraphrases")
    plan = DevicePlan("sleep", None, TrainConfig())
    with launch.OwnEngine("m", ModelConfig(), files, RichProgress(silent()), plan=plan) as own:
        own.train(some_job())
        assert "--enable-sleep-mode" in process.options["extra_args"]  # type: ignore[attr-defined]
    server.close()
    assert events == order


def test_an_engine_that_does_not_come_up_is_ended(
    config_file: Path, tmp_path: Path, fakes: FakeEngine
) -> None:
    launch.EngineProcess.fails = True  # type: ignore[attr-defined]
    with pytest.raises(EngineError, match="did not answer"):
        commands.run_from_file(config_file, run_dir=tmp_path / "run", console=silent())
    assert fakes.events == ["start", "stop"]


def test_a_taken_port_is_told_before_the_engine_is_started(
    config_file: Path, tmp_path: Path, fakes: FakeEngine
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} of 127.0.0.1 is taken"):
            commands.run_from_file(
                config_file,
                run_dir=tmp_path / "run",
                overrides=[f"engine.port={port}"],
                console=silent(),
            )
    assert fakes.events == []


def test_given_engines_are_used_as_one(tmp_path: Path) -> None:
    config = RunConfig.model_validate({"engine": {"urls": ["http://a:1", "http://b:2"]}})
    with launch.open_engine("m", RunFolder(tmp_path), config, RichProgress(silent())) as (
        engine,
        _,
    ):
        assert isinstance(engine, Fleet)
        assert engine.alive == ["http://a:1", "http://b:2"]


def test_training_alone_publishes_a_checkpoint(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    monkeypatch.setattr(single, "run_trainer", fake_trainer(events))
    tasks = tmp_path / "tasks.txt"
    tasks.write_text("pool-01\npool-03\n")
    config = read_config(config_file)
    manifest = single.train_on(config, tasks, tmp_path / "out", RichProgress(silent()))
    assert events == ["train from model"]
    assert (tmp_path / "out" / "checkpoint" / "manifest.json").is_file()
    rows = json.loads((tmp_path / "out" / "training" / "rows.json").read_text())
    assert rows["tasks"] == ["pool-01", "pool-03"]
    assert manifest.version.startswith("round-00-")
    tasks.write_text("pool-99\n")
    with pytest.raises(InputError, match=r"tasks.txt, record pool-99: the pool holds no such task"):
        single.train_on(config, tasks, tmp_path / "other", RichProgress(silent()))
    tasks.write_text("")
    with pytest.raises(InputError, match="names no task"):
        single.train_on(config, tasks, tmp_path / "other", RichProgress(silent()))


def test_a_training_alone_that_could_not_be_published_is_not_done_again(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    def killed(*_: object) -> None:
        raise KilledError

    monkeypatch.setattr(single, "run_trainer", fake_trainer(events))
    tasks, config = tmp_path / "tasks.txt", read_config(config_file)
    tasks.write_text("pool-01\n")

    def train() -> None:
        single.train_on(config, tasks, tmp_path / "out", RichProgress(silent()))

    with monkeypatch.context() as dying:
        dying.setattr(single, "publish", killed)
        with pytest.raises(KilledError):
            train()
    train()
    assert events == ["train from model"]
    assert (tmp_path / "out" / "checkpoint" / "manifest.json").is_file()


def test_evaluation_alone_leaves_outputs_for_a_judge(config_file: Path, tmp_path: Path) -> None:
    config = read_config(config_file, ["evaluate.gold_perplexity=true"])
    builder = launch.make_builder(str(tmp_path / "model"), config)
    seen: list[str] = []
    found = single.evaluate_engine(
        FakeEngine(),
        open_pool(tmp_path / "held"),
        config.evaluate,
        builder,
        tmp_path / "out",
        on_progress=lambda done, total, task: seen.append(f"{done}/{total} {task}"),
    )
    assert seen == ["2/2 held-01"]
    outputs = read_outputs(tmp_path / "out" / "outputs.jsonl")
    assert [each.output for each in outputs] == ["blue"] * 6
    assert isinstance(outputs[0], Output)
    console = silent()
    console.print(evaluation_table("base", found))
    assert isinstance(console.file, io.StringIO)
    assert "33.3 (33.3 to 33.3)" in console.file.getvalue()
    assert "1.65" in console.file.getvalue()  # exp(0.5)


def test_of_the_first_tasks_alone_the_others_are_not_asked(
    config_file: Path, tmp_path: Path
) -> None:
    config = read_config(config_file, [])
    builder = launch.make_builder(str(tmp_path / "model"), config)
    pool = tmp_path / "two.jsonl"
    pool.write_text(make_task("good").model_dump_json() + '\n{"id": "bad"}\n')
    found = single.evaluate_engine(
        FakeEngine(), open_pool(pool), config.evaluate, builder, max_tasks=1
    )
    assert len(found.tasks) == 1


def test_pools_of_a_run_are_checked_first() -> None:
    assert Pools(make_pool(2), make_pool(1, "held"), "x").shared_categories == ["color"]
