"""What TRL is told; no model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.errors import TrainingError
from training.config.run_config import TrainConfig


def arguments(folder: Path, *, validated: bool = False, **train: Any) -> Any:
    from training.trainer.sft import training_arguments

    config = TrainConfig.model_validate(train)
    return training_arguments(config, folder / "attempt-0", validated=validated, longest_row=4)


def test_nothing_is_saved_unless_asked_for(tmp_path: Path) -> None:
    plain = arguments(tmp_path)
    assert plain.save_strategy == "no"
    assert plain.eval_strategy == "no"
    assert plain.completion_only_loss
    assert plain.max_length is None


def test_checkpoints_and_validation_go_together(tmp_path: Path) -> None:
    resumable = arguments(tmp_path, checkpoint_steps=7)
    assert (resumable.save_strategy, resumable.save_steps) == ("steps", 7)
    assert resumable.save_total_limit is None  # ProgressWriter removes the older ones
    assert not resumable.load_best_model_at_end
    assert Path(resumable.output_dir).name == "attempt-0"
    chosen = arguments(tmp_path, validated=True)
    assert (chosen.save_strategy, chosen.eval_strategy) == ("epoch", "epoch")
    assert chosen.load_best_model_at_end
    assert (chosen.metric_for_best_model, chosen.greater_is_better) == ("eval_loss", False)
    assert chosen.per_device_eval_batch_size == 1, (
        "the loss is that of rows, however many per batch"
    )
    both = arguments(tmp_path, validated=True, checkpoint_steps=7)
    assert (both.eval_strategy, both.eval_steps, both.save_steps) == ("steps", 7, 7)


def test_packing_takes_the_longest_row(tmp_path: Path) -> None:
    packed = arguments(tmp_path, packing=True, attention="flash_attention_2")
    assert packed.packing
    assert packed.max_length == 4


def test_any_argument_is_passed_on_and_wrong_ones_are_told(tmp_path: Path) -> None:
    assert arguments(tmp_path, arguments={"weight_decay": 0.1}).weight_decay == 0.1
    with pytest.raises(TrainingError, match=r"train.arguments.wait_decay: no such argument"):
        arguments(tmp_path, arguments={"wait_decay": 1})


@pytest.mark.parametrize(
    ("precision", "more", "mixed"),
    [("float32", {}, "no"), ("bfloat16", {}, "bf16"), ("float32", {"fp16": True}, "fp16")],
)
def test_the_precision_is_that_of_the_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, more: Any, mixed: str
) -> None:
    """Whatever the config of accelerate says, which its launcher puts into the environment."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no" if mixed == "bf16" else "bf16")
    assert arguments(tmp_path, precision=precision, arguments=more).mixed_precision == mixed


def test_adapters_are_pefts(tmp_path: Path) -> None:
    from training.trainer.start_model import adapter_config

    assert adapter_config(TrainConfig()) is None
    found = adapter_config(TrainConfig.model_validate({"lora": {"rank": 4}}))
    assert found is not None
    assert (found.r, found.lora_alpha, found.target_modules) == (4, 32, "all-linear")
