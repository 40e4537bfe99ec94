"""Engines follow a training: what they get is what was in memory, and they cannot hold it up."""

from __future__ import annotations

import gc
import json
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset  # type: ignore[import-untyped]
from peft import LoraConfig
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, TrainerCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from engine.client.wire import UnavailableError
from engine.errors import EngineError, InputError
from engine.protocol.score_config import ScoreConfig
from engine.protocol.weights_state import WeightsState
from engine.weights.adapter_check import check_adapter
from engine.weights.checkpoint_check import check_checkpoint
from engine.weights.manifest import read_manifest
from engine.weights.probing import probe_logprobs
from tests.engine.weights.served import live
from tests.training.fakes import make_score, make_task
from tests.training.tiny import make_tokenizer, save_tiny_model
from training.callback import HotReload, engine_loads

pytestmark = pytest.mark.slow

ROWS = [{"prompt": "say color of sky ", "completion": "blue"}] * 8


class FakeEngine:
    """An engine that checks what it loads, as far as files tell.

    Attributes:
        base: Folder of the model that it serves.
        loaded: Version and manifest of every load.
        hold: A load waits for it.
        down: Calls that find nobody there, from now on.
        failing: What a load raises.
    """

    def __init__(self, base: Path) -> None:
        self.base = base
        self.loaded: list[str] = []
        self.hold: threading.Event | None = None
        self.down = 0
        self.failing: Exception | None = None

    def __call__(self, url: str, *_: Any, **__: Any) -> FakeEngine:
        return self

    def weights(self) -> WeightsState:
        if self.down:
            self.down -= 1
            raise UnavailableError("refused", there=False)
        return live(self.loaded[-1] if self.loaded else "base")

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
        model=AutoModelForCausalLM.from_pretrained(base),
        args=SFTConfig(**(chosen | arguments)),
        train_dataset=Dataset.from_list(ROWS),
        processing_class=make_tokenizer(),
        callbacks=[reload, *beside],
        peft_config=peft,
    )
    trainer.train()
    return trainer


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
    folder = base.parent / "out" / "_hot-reload"
    assert [path.name for path in folder.iterdir()] == [engine.loaded[-1]]
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
    assert list((base.parent / "out" / "_hot-reload").iterdir()) == []


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
