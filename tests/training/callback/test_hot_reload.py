"""Engines follow a training: what they get is what was in memory, and they cannot hold it up."""

from __future__ import annotations

import gc
import json
import shutil
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from datasets import Dataset  # type: ignore[import-untyped]
from peft import LoraConfig, get_peft_model
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, TrainerCallback
from transformers.integrations import integration_utils
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from engine.errors import EngineError, InputError, UnavailableError
from engine.protocol.score_config import ScoreConfig
from engine.protocol.weights_state import WeightsState
from engine.weights.adapter_check import check_adapter
from engine.weights.checkpoint_check import check_checkpoint
from engine.weights.manifest import check_files, read_manifest
from engine.weights.probing import probe_logprobs
from tests.engine.weights.served import live
from tests.training.fakes import make_score, make_task
from tests.training.tiny import make_tiny_model, make_tokenizer, save_tiny_model
from training.callback import HotReload, engine_loads
from training.callback.callback_folder import CallbackFolder
from training.callback.hot_reload import _precision

pytestmark = pytest.mark.slow

ROWS = [{"prompt": "say color of sky ", "completion": "blue"}] * 8
STEP = "hot_reload/weights_step"


class FakeEngine:
    """An engine that checks what it loads, as far as files tell.

    Attributes:
        base: Folder of the model that it serves.
        loaded: Version and manifest of every load.
        hold: A load waits for it.
        down: Calls that find nobody there, from now on.
        failing: What a load raises.
        late: Whether a load is done when nobody waits for it any more.
        busy: Whether it is loading, so that it is not ready.
    """

    def __init__(self, base: Path) -> None:
        self.base = base
        self.loaded: list[str] = []
        self.hold: threading.Event | None = None
        self.down = 0
        self.failing: Exception | None = None
        self.late = self.busy = False
        self.folders: dict[str, Path] = {}

    def __call__(self, url: str, *_: Any, **__: Any) -> FakeEngine:
        return self

    def weights(self) -> WeightsState:
        if self.down:
            self.down -= 1
            raise UnavailableError("refused", there=False)
        version = self.loaded[-1] if self.loaded else "base"
        return live(version, str(self.folders.get(version, self.base)))

    def ready(self) -> None:
        if self.down or self.busy:
            raise UnavailableError("not ready")

    def load_weights(self, folder: Path, version: str) -> WeightsState:
        if self.hold is not None:
            self.hold.wait()
        if self.failing is not None:
            raise self.failing
        manifest = read_manifest(folder)
        if manifest.kind == "full":
            check_checkpoint(folder, manifest, self.base)
            model: Any = AutoModelForCausalLM.from_pretrained(folder)
            model.eval()
            assert probe_logprobs(model, manifest.probes) == manifest.probes
        else:
            check_adapter(folder, manifest, self.base)
        assert manifest.version == version
        self.folders[version] = folder
        if self.late:
            raise EngineError("timed out")
        self.loaded.append(version)
        return live(version)

    def score(self, tasks: Any, _design: Any) -> Any:
        return [make_score(task.id, 0.25, version=self.loaded[-1]) for task in tasks]

    def close(self) -> None:
        pass


@pytest.fixture
def base(tmp_path: Path) -> Path:
    save_tiny_model(tmp_path / "base", tied=True)
    return tmp_path / "base"


@pytest.fixture
def engine(base: Path, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    fake = FakeEngine(base)
    monkeypatch.setattr(engine_loads, "EngineClient", fake)
    monkeypatch.setattr(engine_loads, "_RETRY_SECONDS", 0.01)
    return fake


def train(
    base: Path,
    reload: HotReload,
    *beside: TrainerCallback,
    peft: LoraConfig | None = None,
    model: Any = None,
    **arguments: Any,
) -> SFTTrainer:
    chosen: dict[str, Any] = {
        "output_dir": str(base.parent / "out"),
        "num_train_epochs": 3,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-2,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "bf16": False,
    }
    trainer = SFTTrainer(
        model=model or AutoModelForCausalLM.from_pretrained(base),
        args=SFTConfig(**(chosen | arguments)),
        train_dataset=Dataset.from_list(ROWS),
        processing_class=make_tokenizer(),
        callbacks=[reload, *beside],
        peft_config=peft,
    )
    trainer.train()
    return trainer


def own_folder(base: Path, url: str = "http://one") -> Path:
    return CallbackFolder(base.parent / "out" / "_hot-reload", [url]).path


def held(base: Path) -> list[str]:
    """What lies in the folders of all callbacks."""
    return [path.name for path in (base.parent / "out" / "_hot-reload").glob("*/*")]


class AtEpochs(TrainerCallback):
    def __init__(self, do: Callable[[int, Any], None]) -> None:
        self.do = do

    def on_epoch_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.do(round(state.epoch), more["model"])


def test_each_epoch_is_loaded_scored_and_reported(base: Path, engine: FakeEngine) -> None:
    tasks = [make_task("one"), make_task("two")]
    reload = HotReload(["http://one", "http://two"], score=tasks)
    trainer = train(base, reload, AtEpochs(lambda *_: reload.wait()))
    assert [report.step for report in reload.reports] == [2, 4, 6]
    assert all(report.faults == {} and len(report.seconds) == 2 for report in reload.reports)
    assert [report.version for report in reload.reports] == engine.loaded
    assert all(report.version and "step-00000" in report.version for report in reload.reports)
    told = [entry for entry in trainer.state.log_history if "hot_reload/version" in entry]
    assert [entry["hot_reload/weights_step"] for entry in told] == [2, 4, 6]
    assert all(entry["hot_reload/prompt_uncertainty"] == 0.25 for entry in told)
    assert all("hot_reload/blocked_seconds" in entry for entry in told)
    assert "hot_reload/load_seconds" in told[0]
    # Only what an engine serves is kept.
    assert held(base) == [engine.loaded[-1]]
    model: Any = trainer.model
    assert model.training


def test_the_training_does_not_wait_for_an_engine(base: Path, engine: FakeEngine) -> None:
    """Of the weights that come meanwhile the last ones are loaded."""
    engine.hold = threading.Event()
    seen: list[int] = []

    def on_epoch(epoch: int, _: Any) -> None:
        while epoch == 1 and not list((base.parent / "out").rglob("manifest.json")):
            time.sleep(0.01)
        seen.append(epoch)
        if epoch == 3:
            assert engine.loaded == []
            assert engine.hold is not None
            engine.hold.set()

    reload = HotReload("http://one/v1", every=1)
    train(base, reload, AtEpochs(on_epoch))
    assert seen == [1, 2, 3]
    assert reload.reports[-1].step == 6
    assert len(engine.loaded) == len(reload.reports) < 6


def test_copies_that_are_left_out_are_let_go(tmp_path: Path, engine: FakeEngine) -> None:
    engine.hold = threading.Event()
    loads = engine_loads.EngineLoads(["http://one"], tmp_path, 0.0, (), ScoreConfig())
    kept: list[weakref.ref[Any]] = []
    for step in range(5):

        def write(_: Path, at: int = step) -> None:
            assert engine.hold is not None
            engine.hold.wait(10)
            raise InputError(f"step {at}")

        kept.append(weakref.ref(write))
        loads.offer(engine_loads.Snapshot(step, "", "float32", (), write, 0.0))
        while step == 0 and not loads._running[0].running():
            time.sleep(0.001)
        del write
    gc.collect()
    assert [each() is not None for each in kept] == [True, False, False, False, True]
    engine.hold.set()
    assert [report.faults for report in loads.reports(wait=True)] == [
        {"": "step 0"},
        {"": "step 4"},
    ]
    loads.close()


def test_each_training_loads_its_last_weights(base: Path, engine: FakeEngine) -> None:
    reload = HotReload("http://one", every=1_000)
    trainer = train(base, reload)
    trainer.train()
    assert [report.step for report in reload.reports] == [6, 6]


@pytest.mark.parametrize("must_load", [False, True])
def test_an_engine_that_fails_ends_a_training_only_if_asked(
    base: Path, engine: FakeEngine, must_load: bool, caplog: pytest.LogCaptureFixture
) -> None:
    engine.failing = EngineError("the probe pairs differ")
    reload = HotReload("http://one", must_load=must_load)
    if must_load:
        with pytest.raises(EngineError, match=r"weights of step 2 at http://one: the probe pairs"):
            train(base, reload, AtEpochs(lambda *_: reload.wait()))
        return
    trainer = train(base, reload, AtEpochs(lambda *_: reload.wait()))
    assert trainer.state.global_step == 6
    assert [report.faults for report in reload.reports] == [
        {"http://one": "the probe pairs differ"}
    ] * 3
    assert "the probe pairs differ" in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        SafetensorError("No space left on device"),
        RuntimeError("No space left on device"),  # or what else transformers finds to say
    ],
)
def test_weights_that_cannot_be_written_do_not_end_a_training(
    base: Path, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("training.callback.hot_reload.save_model_files", full)
    reload = HotReload("http://one")
    train(base, reload, AtEpochs(lambda *_: reload.wait()))
    assert engine.loaded == []
    assert len(reload.reports) == 3
    assert all("No space left on device" in report.faults[""] for report in reload.reports)
    assert held(base) == []


def test_an_engine_that_was_gone_is_found_again(base: Path, engine: FakeEngine) -> None:
    reload = HotReload("http://one")

    def on_epoch(epoch: int, _: Any) -> None:
        reload.wait()
        if epoch == 1:
            engine.down = 5
            engine.loaded.clear()  # it starts on the base model

    train(base, reload, AtEpochs(on_epoch))
    assert [len(report.seconds) for report in reload.reports] == [1, 1, 1]
    assert len(engine.loaded) == 2
    engine.down = 10**6
    gone = HotReload("http://one", patience_s=0.1, every=5)
    trainer = train(base, gone)
    assert trainer.state.global_step == 6
    assert [report.faults for report in gone.reports] == [{"http://one": "refused"}] * 2
    with pytest.raises(UnavailableError):
        train(base, HotReload("http://one", must_load=True))


def test_of_a_peft_model_the_adapter_goes(base: Path, engine: FakeEngine) -> None:
    reload = HotReload("http://one")
    lora = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    train(base, reload, AtEpochs(lambda *_: reload.wait()), peft=lora)
    assert [report.faults for report in reload.reports] == [{}] * 3
    dora = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", use_dora=True)
    with pytest.raises(InputError, match=r"use_dora.*cannot be merged"):
        train(base, HotReload("http://one"), peft=dora)


@pytest.mark.parametrize("name", ["default", "mine"])
def test_of_several_adapters_the_active_one_goes(base: Path, engine: FakeEngine, name: str) -> None:
    """TRL lays a frozen `ref` beside the one that it trains."""
    lora = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    model: Any = get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora, name)
    model.add_adapter("ref", lora)
    reload = HotReload("http://one", every=1_000)
    train(base, reload, model=model)
    assert [report.faults for report in reload.reports] == [{}]
    (folder,) = engine.folders.values()
    written = load_file(folder / "adapter_model.safetensors")
    assert all(tensor.any() for tensor in written.values()), "those of `ref` begin, and stay, at 0"
    assert {path.name for path in folder.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "manifest.json",
    }
    model.base_model.set_adapter([name, "ref"])
    with pytest.raises(InputError, match="has 2 active adapters, of which one can be loaded"):
        train(base, HotReload("http://one"), model=model)


def test_a_base_in_few_bits_is_warned_of(
    tmp_path: Path, engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    model = make_tiny_model(tied=True)
    for bits in (None, 4):
        if bits:
            model.is_loaded_in_4bit = True
        reload = HotReload("http://one")
        reload.on_train_begin(
            SimpleNamespace(output_dir=str(tmp_path)),
            SimpleNamespace(is_world_process_zero=True),
            None,
            model=model,
            processing_class=make_tokenizer(),
        )
        reload._close()
        assert ("loaded in 4 or 8 bits" in caplog.text) is bool(bits)


def test_an_adapter_that_no_engine_could_merge_is_told_at_once(base: Path) -> None:
    file = base / "model.safetensors"
    tensors = load_file(file)
    lora = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    model: Any = get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora)
    save_file({f"language_model.{name}": tensors[name] for name in tensors}, file)
    with pytest.raises(InputError, match=r"q_proj: has no weight of its name in the model's files"):
        HotReload("http://one").on_train_begin(
            None, None, None, model=model, processing_class=make_tokenizer()
        )


@pytest.mark.parametrize(
    ("mixed", "precision"), [("no", "float32"), ("bf16", "bfloat16"), ("fp16", "float16")]
)
def test_the_precision_may_be_that_of_an_accelerate_config(mixed: str, precision: str) -> None:
    """Its launcher puts it into the environment, and transformers into its arguments."""
    arguments = SimpleNamespace(mixed_precision=mixed, bf16=False, fp16=False)
    assert _precision(arguments, make_tiny_model(tied=True)) == precision


def test_the_best_weights_are_the_last_ones(base: Path, engine: FakeEngine) -> None:
    reload = HotReload("http://one", every=4)
    rows = Dataset.from_list([{"prompt": "say color of sky ", "completion": "red"}] * 2)
    epochs = {"eval_strategy": "epoch", "save_strategy": "epoch"}
    chosen: dict[str, Any] = {"load_best_model_at_end": True, **epochs}
    arguments = SFTConfig(
        output_dir=str(base.parent / "out"),
        num_train_epochs=2,
        per_device_train_batch_size=4,
        learning_rate=0.1,
        report_to="none",
        use_cpu=True,
        bf16=False,
        **chosen,
    )
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base),
        args=arguments,
        train_dataset=Dataset.from_list(
            [{"prompt": "say color of sky ", "completion": "blue"}] * 8
        ),
        eval_dataset=rows,
        processing_class=make_tokenizer(),
        callbacks=[reload],
    )
    trainer.train()
    assert trainer.state.best_global_step == 2
    assert len(reload.reports) == 2, "step 4 as it was, and as it is with the best weights"
    assert engine.loaded[0] != engine.loaded[1]


def test_what_is_written_goes_to_the_trackers(base: Path, engine: FakeEngine) -> None:
    reload = HotReload("http://one", every=3)
    told: list[dict[str, float]] = []

    class Tracker(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            told.append(more["logs"])

    reload._reporters = [Tracker()]
    train(base, reload)
    assert [logs["hot_reload/weights_step"] for logs in told] == [3, 6]
    assert all(isinstance(value, float | int) for logs in told for value in logs.values())
    json.dumps(told)


def test_two_callbacks_leave_each_others_checkpoints_alone(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = {"http://one": FakeEngine(base), "http://two": FakeEngine(base)}
    monkeypatch.setattr(engine_loads, "EngineClient", lambda url, *_, **__: engines[url])
    one, two = HotReload("http://one"), HotReload("http://two")

    def on_epoch(epoch: int, _: Any) -> None:
        two.wait()
        engines["http://two"].failing = EngineError("it stays with what it has")

    train(base, one, AtEpochs(lambda *_: one.wait()), two, AtEpochs(on_epoch))
    assert len(engines["http://one"].loaded) == 3
    assert len(engines["http://two"].loaded) == 1
    for engine in engines.values():
        folder = Path(engine.weights().path)
        check_files(folder, read_manifest(folder))


def test_who_comes_second_finds_the_checkpoint_made(
    base: Path, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def late(self: Path, target: Path) -> Path:
        if self.suffix == ".part":
            shutil.copytree(self, target)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    reload = HotReload("http://one")
    train(base, reload, AtEpochs(lambda *_: reload.wait()))
    assert [report.faults for report in reload.reports] == [{}] * 3


@pytest.mark.parametrize("busy", [False, True])
def test_what_an_engine_made_live_or_may_yet_is_not_removed(
    base: Path, engine: FakeEngine, busy: bool
) -> None:
    """Its client has given up, and the weights after those are refused."""
    reload = HotReload("http://one")
    engine.late = True

    def on_epoch(epoch: int, _: Any) -> None:
        reload.wait()
        if epoch == 1:
            (first,) = engine.folders
            engine.late, engine.busy, engine.failing = False, busy, EngineError("refused")
            if not busy:
                engine.loaded.append(first)
        if epoch == 3:
            engine.busy = engine.late = False

    train(base, reload, AtEpochs(on_epoch))
    assert [len(report.faults) for report in reload.reports] == [1, 1, 1]
    (first,) = engine.folders
    steps = ["step-000002", "step-000004", "step-000006"]
    kept = [name.rpartition("-")[0] for name in sorted(held(base))]
    assert first in held(base)
    assert kept == (steps if busy else [steps[0], steps[2]])


def test_what_a_killed_training_left_is_removed(base: Path, engine: FakeEngine) -> None:
    folder = own_folder(base)
    left = ["step-000002-live", "step-000004-dead", ".step-000006.7f.12.part", ".step-000001.gone"]
    for name in left:
        (folder / name).mkdir(parents=True)
        (folder / name / "model.safetensors").write_bytes(b"weights")
    engine.loaded.append("live")
    engine.folders["live"] = folder / left[0]
    engine.failing = EngineError("refused")
    reload = HotReload("http://one", every=1_000)
    train(base, reload)
    assert len(held(base)) == 2
    assert left[0] in held(base)
    engine.failing = None
    train(base, reload)
    assert held(base) == engine.loaded[1:]


def full_disk(_: Path) -> None:
    raise OSError(28, "No space left on device")


def test_leftovers_do_not_keep_a_disk_full(base: Path, engine: FakeEngine) -> None:
    (own_folder(base) / "step-000002-dead").mkdir(parents=True)
    engine.down = 10**6
    loads = engine_loads.EngineLoads(
        ["http://one"], base.parent / "out" / "_hot-reload", 0.0, (), ScoreConfig()
    )
    loads.offer(engine_loads.Snapshot(4, "", "float32", (), full_disk, 0.0))
    loads.wait()
    assert held(base) == ["step-000002-dead"], "nobody says that it is not live"
    engine.down = 0
    loads.offer(engine_loads.Snapshot(6, "", "float32", (), full_disk, 0.0))
    loads.close()
    assert held(base) == []


def test_half_a_checkpoint_is_made_again(
    base: Path, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[str] = []
    rmtree = shutil.rmtree

    def noted(path: Any, **more: Any) -> None:
        removed.append(Path(path).name)
        rmtree(path, **more)

    monkeypatch.setattr("training.callback.callback_folder.shutil.rmtree", noted)
    train(base, HotReload("http://one", every=1))
    (version,) = held(base)
    weights = own_folder(base) / version / "model.safetensors"
    weights.unlink()
    train(base, HotReload("http://one", every=1_000))
    assert held(base) == [version]
    check_files(weights.parent, read_manifest(weights.parent))
    assert f".{version}.gone" in removed
    assert not [name for name in removed if name.startswith("step-")], "it was renamed before"


class Tracker(TrainerCallback):
    """Of a kind that ends its run with the training, as that of MLflow."""

    running = False
    told: ClassVar[list[int]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        Tracker.running, Tracker.told = True, []

    def on_log(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        assert Tracker.running
        if STEP in more["logs"]:
            Tracker.told.append(more["logs"][STEP])

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        Tracker.running = False


@pytest.mark.parametrize("last_words", [True, False])
def test_trackers_are_told_until_they_end(
    base: Path,
    engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
    last_words: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "tracker", Tracker)
    if not last_words:  # a trainer may have none
        monkeypatch.setattr(HotReload, "on_log", TrainerCallback.on_log)
    reload = HotReload("http://one", every=6)
    trainer = train(base, reload, report_to=["tracker"])
    history = [entry[STEP] for entry in trainer.state.log_history if STEP in entry]
    assert history == [report.step for report in reload.reports] == [6]
    assert Tracker.told == ([6] if last_words else [])
    assert "takes no metrics" not in caplog.text


@pytest.mark.parametrize("must_load", [False, True])
def test_weights_that_are_not_finite_end_a_training_only_if_asked(
    base: Path, engine: FakeEngine, must_load: bool
) -> None:
    reload = HotReload("http://one", must_load=must_load)
    modes: list[bool] = []

    def on_epoch(epoch: int, model: Any) -> None:
        reload.wait()
        modes.append(model.training)
        if epoch == 1:
            next(model.parameters()).data.fill_(float("nan"))

    if must_load:
        with pytest.raises(EngineError, match=r"step 4 at publishing.*not finite"):
            train(base, reload, AtEpochs(on_epoch))
    else:
        trainer = train(base, reload, AtEpochs(on_epoch))
        assert trainer.state.global_step == 6
        assert [bool(report.faults) for report in reload.reports] == [False, True, True]
        assert "nothing is loaded" in reload.reports[1].faults[""]
    assert len(engine.loaded) == 1
    assert modes == [True] * len(modes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"url": "nowhere"}, "no address"),
        ({"url": "http://one", "every": "step"}, "neither 'epoch' nor a number"),
        ({"url": "http://one", "every": 0}, "neither 'epoch' nor a number"),
        ({"url": "http://one", "score": "no/pool"}, "no such file or folder"),
    ],
)
def test_wrong_settings_are_told_at_once(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        HotReload(**arguments)
