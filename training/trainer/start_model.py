"""The model that a training starts from. Imported by `training.trainer.sft` alone.

peft is imported where there are adapters.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from engine.errors import InputError, TrainingError
from engine.weights.probing import capping_attention
from training.config.run_config import TrainConfig
from training.trainer.trained_model import check_mergeable
from training.trainer.trainer_check import TrainerQuestion
from training.trainer.trainer_process import TrainJob


def check_model(question: TrainerQuestion) -> None:
    """`TrainingError` if the model has no such attention, or not what is to get an adapter, or an
    engine could not merge what is to be published.

    Its weights are not read.
    """
    assert question.model is not None
    config, trusted = question.config, {"trust_remote_code": question.trust_remote_code}
    # With a launcher it may be computed on another machine, with other devices.
    attention = None if config.launcher else config.attention
    try:
        shape = AutoConfig.from_pretrained(question.model, **trusted)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
                shape, attn_implementation=attention, **trusted
            )
        if (adapters := adapter_config(config)) is not None:
            from peft import get_peft_model

            adapted = get_peft_model(model, adapters)
            if config.publish == "adapter":
                check_mergeable(adapted, question.model)
    except InputError as error:
        remedy = 'train.publish = "merged" has the trainer merge it'
        raise TrainingError(f"train.lora: {error}; {remedy}") from error
    except (ValueError, ImportError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise TrainingError(f"train.lora or train.attention: {reason}") from error
    first, last = (
        hasattr(each, "base_layer")
        for each in (model.get_input_embeddings(), model.get_output_embeddings())
    )
    if getattr(shape, "tie_word_embeddings", False) and (first or last):
        raise TrainingError(
            "train.lora.target_modules: the model's embeddings and output layer are one tensor, "
            "and an adapter of one would change both"
        )
    if last:
        raise TrainingError("train.lora.target_modules: TRL trains no adapter of the output layer")


def load_model(job: TrainJob) -> Any:
    """The model to start from, in float32: bfloat16 would swallow small updates."""
    trusted = {"trust_remote_code": job.trust_remote_code}
    chosen = job.config.attention
    chosen = chosen or capping_attention(AutoConfig.from_pretrained(job.model, **trusted))
    attention = {"attn_implementation": chosen} if chosen else {}
    return AutoModelForCausalLM.from_pretrained(
        job.model, dtype=torch.float32, **trusted, **attention
    )


def adapter_config(config: TrainConfig) -> Any | None:
    """Peft's config of the adapters; none when all weights are trained."""
    if config.lora is None:
        return None
    from peft import LoraConfig

    names = config.lora.target_modules
    return LoraConfig(
        r=config.lora.rank,
        lora_alpha=config.lora.alpha,
        lora_dropout=config.lora.dropout,
        target_modules="all-linear" if names == ("all-linear",) else list(names),
        task_type="CAUSAL_LM",
    )
