"""A run keeps to the model it began with, and says where it is another one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from engine.errors import InputError
from engine.protocol.weights_state import WeightsState
from engine.weights.identity import weights_identity
from engine.weights.models import BUNDLED_MODEL
from tests.engine.weights.served import SERVED
from tests.training.fakes import FakeEngine, KilledError, make_pool
from tests.training.run.test_rounds import CONFIG, make_run
from training.config.run_config import RunConfig
from training.run.base_model import base_location, check_base, weights_here
from training.run.run_folder import RunFolder
from training.run.state import RunState, RunStep, open_run


def place_model(folder: Path, value: int = 1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    save_file({"w": np.full(8, value, np.uint8)}, folder / "model.safetensors")
    return folder


def begin(folder: Path, model: Path, config: RunConfig = CONFIG) -> RunState:
    """The state of a run that begins on an engine of a model."""
    served = SERVED.model_copy(update={"model": str(model), "weights": weights_identity(model)})
    base = WeightsState(version=served.version, path=str(model), served=served)
    return open_run(RunFolder(folder), config, make_pool(1), make_pool(1, "held"), base)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where names lead now."""
    found = str(tmp_path / "elsewhere")
    monkeypatch.setattr("training.run.base_model.resolve_model", lambda name: found)
    return found


def test_a_run_keeps_to_what_its_name_led_to(tmp_path: Path, elsewhere: str) -> None:
    model, run = place_model(tmp_path / "model"), RunFolder(tmp_path / "run")
    assert base_location(run, BUNDLED_MODEL) == elsewhere
    begin(run.path, model)
    assert base_location(run, BUNDLED_MODEL) == str(model)
    assert base_location(run, str(model)) == elsewhere, "a folder is the one that is named"
    place_model(model, 2)
    assert base_location(run, BUNDLED_MODEL) == elsewhere
    run.state.write_text("{")
    assert base_location(run, BUNDLED_MODEL) == elsewhere


def test_a_hub_id_is_its_copy_of_then_where_the_hub_has_another(
    tmp_path: Path, elsewhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, then, now = RunFolder(tmp_path / "run"), place_model(tmp_path / "c1"), tmp_path / "c2"
    state = begin(run.path, then)
    heads = {"org/model": then}
    monkeypatch.setattr(
        "training.run.base_model.local_folder", lambda model: heads.get(model, Path(model))
    )
    assert base_location(run, "org/model") == "org/model"
    check_base(state, "org/model")
    heads["org/model"] = now
    now.mkdir()
    (now / "tokenizer.json").write_text("{}")
    assert weights_here("org/model") is None, "its weights have not been downloaded"
    check_base(state, "org/model")
    heads["org/model"] = now.rename(tmp_path / ("c" * 40))
    check_base(state, "org/model")
    state_of_commit = begin(tmp_path / "other", place_model(tmp_path / ("b" * 40)))
    with pytest.raises(InputError, match=r"org/model holds other weights \(cccccccccccc\)"):
        check_base(state_of_commit, "org/model")
    heads["org/model"] = heads["org/model"].rename(now)
    place_model(now, 2)
    assert base_location(run, "org/model") == str(then)
    with pytest.raises(InputError, match=r"field 'model.name': org/model holds other weights"):
        check_base(state, "org/model")
    place_model(now)  # the same weights: somebody has mended the README there
    assert base_location(run, "org/model") == "org/model"
    check_base(state, "org/model")
    (now / "model.safetensors.index.json").write_text('{"weight_map": {"w": "1-of-2"}}')
    assert weights_here("org/model") is None, "not all of them"


def test_a_model_is_the_one_that_a_run_began_with(tmp_path: Path) -> None:
    model = place_model(tmp_path / "model")
    state = begin(tmp_path / "run", model)
    for known in (None, state):
        check_base(known, str(model))
    place_model(model, 2)
    check_base(None, str(model))
    with pytest.raises(InputError, match=r"field 'model.name': .*model holds other weights"):
        check_base(state, str(model))
    check_base(state, str(tmp_path / "gone"))


def test_a_model_that_is_replaced_between_rounds_is_not_trained_from(tmp_path: Path) -> None:
    model = place_model(tmp_path / "model")
    served = SERVED.model_copy(update={"weights": weights_identity(model)})
    engine = FakeEngine(version=served.version, served=served)
    run = make_run(tmp_path / "run", engine, die_at=("begin", 1, RunStep.TRAIN))
    run.base_model = str(model)
    with pytest.raises(KilledError):
        run.run()
    place_model(model, 2)
    again = make_run(tmp_path / "run", engine)  # which serves the first round's weights
    again.base_model = str(model)
    with pytest.raises(InputError, match=r"field 'model.name'.*holds other weights"):
        again.run()
    place_model(model)
    again.run()
    assert engine.events.count("train from model") == 2
