"""The model that a training starts from."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.errors import InputError, TrainingError
from tests.training.tiny import save_tiny_model
from training.config.run_config import LoraConfig, RunConfig, TrainConfig
from training.trainer.start_model import check_model, load_model
from training.trainer.trainer_check import TrainerQuestion, _check_trained_whole, check_trainable


@pytest.mark.parametrize(
    ("family", "chosen", "expected"),
    [("gemma2", None, "eager"), ("gemma2", "sdpa", "sdpa"), ("llama", None, "sdpa")],
)
def test_a_training_starts_with_attention_that_is_capped(
    family: str, chosen: str | None, expected: str, tmp_path: Path
) -> None:
    save_tiny_model(tmp_path, tied=True, family=family)
    job: Any = SimpleNamespace(
        model=str(tmp_path), trust_remote_code=False, config=TrainConfig(attention=chosen)
    )
    assert load_model(job).config._attn_implementation == expected


@pytest.mark.parametrize(("publish", "refused"), [("merged", False), ("adapter", True)])
def test_adapters_that_no_engine_merges_are_told_before_there_is_a_job(
    publish: Any, refused: bool, tmp_path: Path
) -> None:
    """Peft lets them change whole experts, which are several matrices."""
    save_tiny_model(tmp_path, tied=True, family="mixtral", num_local_experts=2)
    config = TrainConfig(lora=LoraConfig(), publish=publish, start_from="base")
    told = r"train.lora: record the adapter, field 'target_parameters': .*publish = \"merged\""
    with pytest.raises(TrainingError, match=told) if refused else contextlib.nullcontext():
        check_model(TrainerQuestion(config=config, model=str(tmp_path)))


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"model_type": "qwen3_5", "text_config": {}}, "a qwen3_5 is served, of which .*_5_text"),
        ({"model_type": "qwen2_vl"}, "is a qwen2_vl, of which transformers has no causal"),
        ({"model_type": "gpt_oss"}, "is a gpt_oss, of which vLLM would keep some of the weights"),
        ({"model_type": "gemma3", "text_config": {}}, None),
        ({"model_type": "llama"}, None),
        ({"model_type": "unheard-of"}, None),
        (None, None),
    ],
)
def test_a_model_of_which_only_a_part_would_be_trained(
    config: dict[str, Any] | None, told: str | None, tmp_path: Path
) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=told) if told else contextlib.nullcontext():
        check_trainable(RunConfig(), str(tmp_path))


def test_adapters_are_trained_of_what_no_load_reaches_whole(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt_oss"}))
    _check_trained_whole(str(tmp_path), trust_remote_code=False, whole=False)
