"""Engine and trainer on one GPU: what is done so that no memory is wanting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from engine.process.gpu_memory import GIB, Gpu
from training.config.run_config import RunConfig
from training.config.train_config import TrainConfig
from training.run.device_plan import (
    ModelSize,
    engine_bytes,
    plan_device,
    read_model_size,
    training_bytes,
)

SMALL = ModelSize(134_515_008, 30, 576, 1536, 49152, 2 * 30 * 3 * 64)
"""SmolLM2-135M."""

ONE_B = ModelSize(1_100_048_384, 22, 2048, 5632, 32000, 2 * 22 * 4 * 64)
"""TinyLlama-1.1B."""

LLAMA_1B = ModelSize(1_235_814_400, 16, 2048, 8192, 128256, 2 * 16 * 8 * 64)
EIGHT_B = ModelSize(8_030_261_248, 32, 4096, 14336, 128256, 2 * 32 * 8 * 128)


def gpu(gib: float, used: float = 0.0) -> Gpu:
    return Gpu("GPU", int(gib * GIB), int(used * GIB))


def config(**values: Any) -> RunConfig:
    return RunConfig.model_validate(values)


@pytest.mark.parametrize("model", [SMALL, ONE_B, LLAMA_1B])
@pytest.mark.parametrize("gib", [24.0, 40.0, 80.0])
def test_no_memory_is_wanting_by_default(model: ModelSize, gib: float) -> None:
    given = config()
    plan = plan_device([gpu(gib)], model, given)
    needed = training_bytes(model, plan.train, given.max_row_length)
    if plan.sharing == "keep":
        assert plan.engine_share is not None
        assert plan.engine_share * gib * GIB >= engine_bytes(model, "bfloat16", 2048)
        needed += int(plan.engine_share * gib * GIB)
    elif plan.sharing == "sleep":
        needed += 3 * GIB
    assert needed <= gib * GIB * 0.97
    same = plan.train.batch_size * plan.train.gradient_accumulation_steps
    assert same == given.train.batch_size * given.train.gradient_accumulation_steps


def test_what_is_cheaper_comes_first() -> None:
    def chosen(model: ModelSize, gib: float) -> tuple[str, bool, bool]:
        plan = plan_device([gpu(gib)], model, config())
        whole = plan.train.batch_size == TrainConfig().batch_size
        return plan.sharing, whole, plan.train.gradient_checkpointing

    assert chosen(SMALL, 80.0) == ("keep", True, False)
    assert chosen(SMALL, 24.0) == ("keep", False, False)
    assert chosen(ONE_B, 80.0) == ("keep", True, False)
    assert chosen(ONE_B, 24.0) == ("sleep", False, True)
    assert chosen(LLAMA_1B, 24.0) == ("stop", False, True)
    told = plan_device([gpu(24.0)], LLAMA_1B, config()).reason
    assert told == (
        "so that training has memory enough: the engine is stopped meanwhile, 1 of 8 rows at once, "
        "for the same gradients, activations are computed again instead of kept"
    )


def test_memory_that_others_hold_is_not_planned_with() -> None:
    assert plan_device([gpu(80.0, used=56.0)], LLAMA_1B, config()).sharing == "stop"


def test_an_engine_sleeps_where_that_frees_enough() -> None:
    given = config(train={"batch_size": 1})
    plans = [plan_device([gpu(gib)], ONE_B, given) for gib in (80.0, 27.0, 24.0)]
    assert [plan.sharing for plan in plans] == ["keep", "sleep", "stop"]
    assert plans[1].reason == "so that training has memory enough: the engine sleeps meanwhile"
    sleep = config(engine={"while_training": "sleep"})
    assert plan_device([], None, sleep).sharing == "stop", "a CPU's engine has no sleep"


def test_where_nothing_fits_a_line_says_what_would() -> None:
    plan = plan_device([gpu(80.0)], EIGHT_B, config())
    assert plan.sharing == "stop"
    assert "train.lora" in plan.reason
    lora = plan_device([gpu(80.0)], EIGHT_B, config(train={"lora": {}}))
    assert "train.lora" not in lora.reason


def test_what_the_user_says_is_done() -> None:
    train = config().train
    kept = plan_device([gpu(24.0)], LLAMA_1B, config(engine={"while_training": "keep"}))
    assert (kept.sharing, kept.engine_share, kept.train) == ("keep", None, train)
    stopped = plan_device([gpu(80.0)], SMALL, config(engine={"while_training": "stop"}))
    assert (stopped.sharing, stopped.engine_share, stopped.train) == ("stop", 0.9, train)
    flags = {"flags": ["--gpu-memory-utilization=0.3"]}
    assert plan_device([gpu(80.0)], SMALL, config(engine=flags)).engine_share is None


def test_where_it_is_not_known_who_uses_what_the_engine_is_stopped() -> None:
    launched = config(train={"launcher": ["torchrun"]})
    for gpus, model, given in (
        ([gpu(80.0)] * 2, SMALL, config()),
        ([gpu(80.0)], None, config()),
        ([gpu(80.0)], SMALL, launched),
    ):
        plan = plan_device(gpus, model, given)
        assert (plan.sharing, plan.train) == ("stop", given.train)
    assert plan_device([], None, config()).sharing == "keep", "a CPU's memory is shared anyway"
    assert plan_device([], None, config(engine={"while_training": "stop"})).sharing == "stop"


def test_the_size_of_a_model_is_read_from_its_files(tmp_path: Path) -> None:
    assert read_model_size(tmp_path) is None
    shape = {"num_attention_heads": 4, "hidden_size": 8, "num_hidden_layers": 3}
    (tmp_path / "config.json").write_text(
        json.dumps(shape | {"intermediate_size": 16, "vocab_size": 10})
    )
    assert read_model_size(tmp_path) is None, "no weights are here yet"
    save_file({"a": np.zeros((10, 8)), "b": np.zeros(8)}, tmp_path / "model.safetensors")
    assert read_model_size(tmp_path) == ModelSize(88, 3, 8, 16, 10, 2 * 3 * 4 * 2)
