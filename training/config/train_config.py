"""The `train` section of a config, which the trainer process reads too."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from engine.tasks import Record

OWN_ARGUMENTS = frozenset(
    {
        "output_dir",
        "learning_rate",
        "lr_scheduler_type",
        "warmup_steps",
        "num_train_epochs",
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
        "gradient_checkpointing",
        "seed",
        "data_seed",
        "completion_only_loss",
        "max_length",
        "packing",
        "bf16",
        "use_cpu",
        "logging_steps",
        "logging_strategy",
        "logging_nan_inf_filter",
        "save_strategy",
        "save_steps",
        "save_total_limit",
        "save_only_model",
        "eval_strategy",
        "eval_packing",
        "per_device_eval_batch_size",
        "prediction_loss_only",
        "eval_steps",
        "load_best_model_at_end",
        "metric_for_best_model",
        "greater_is_better",
        "report_to",
        "disable_tqdm",
        "resume_from_checkpoint",
        "model_init_kwargs",
        "chat_template_path",
        "assistant_only_loss",
        "push_to_hub",
    }
)
"""TrainingArguments that fields of `TrainConfig` or the trainer itself decide."""

WITHOUT_EFFECT = {
    "launcher",
    "report_to",
    "batch_size",
    "gradient_accumulation_steps",
    "gradient_checkpointing",
}
"""Fields that do not decide what a training comes to, as long as the rows of a step are as many."""

EXACT_PACKING = frozenset({"flash_attention_2", "flash_attention_3", "flash_attention_4"})
"""Attention implementations under which packed rows do not see each other."""


class LoraConfig(Record):
    """Low-rank adapters (Hu et al., 2021), through peft.

    Attributes:
        rank: Rank of the adapters.
        alpha: Scale; the adapter's output is multiplied by alpha / rank.
        dropout: Dropout before the adapters, in [0, 1).
        target_modules: Names of the modules that get one; `all-linear` is every linear layer but
            the output projection.
    """

    rank: Annotated[int, Field(ge=1)] = 16
    alpha: Annotated[int, Field(ge=1)] = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: tuple[str, ...] = ("all-linear",)


class TrainConfig(Record):
    """How the model is fine-tuned.

    Attributes:
        learning_rate: Peak learning rate of AdamW.
        schedule: Shape of the learning rate after the warm-up.
        warmup_steps: Optimiser steps of linear warm-up.
        epochs: Passes over the rows.
        batch_size: Rows per step and device.
        gradient_accumulation_steps: Batches per optimiser step.
        instances_per_task: Instances of each selected task, at most.
        max_length: Longest row in tokens, prompt and completion; longer rows are left out and
            reported, never cut. One less than the model's context length when unset.
        precision: `auto` is float32 on CPU and bfloat16 on CUDA. With bfloat16 the optimiser still
            keeps float32 weights; what is written and probed is bfloat16.
        gradient_checkpointing: Trade time (a third more) for memory.
        seed: Seed of the instance sample and of the row order; NumPy takes 32 bits.
        start_from: `base` trains the base model on all tasks selected so far (as Kung et al., 2023,
            do); `last` trains the last checkpoint on the newly selected tasks.
        checkpoint_steps: Keep what an interrupted training needs to go on, every so many optimiser
            steps; unset, an interrupted training starts over. Costs six times the float32 weights
            on disk while the training lasts, with validation tasks nine times.
        validation_tasks: Tasks of the pool that are never trained on; the weights of the epoch (or
            of the `checkpoint_steps`) with the lowest loss on them, the mean over rows, are kept.
            For a mixture of experts TRL adds the loss of its router, here as in the training;
            `arguments.router_aux_loss_coef = 0` leaves it out.
            0: the last weights.
        validation_instances: Instances of each validation task, at most.
        packing: Put several rows into one sequence; only with an attention implementation that
            keeps them apart (`attention`), so that the result is exact: not for models with states
            (Mamba), which run on from row to row.
        attention: Name of a transformers attention implementation; the model's own when unset, or
            `eager` where that leaves out a cap of attention scores that the engine has (Gemma 2).
        lora: Train low-rank adapters; unset: all weights.
        publish: `merged` publishes all weights, adapters merged into them. `adapter` publishes the
            adapter alone, which the engine merges into the base model while it loads it: megabytes
            to write and to send instead of the whole model, and the same scores.
        report_to: Where the trainer reports to beside its records, as TrainingArguments has it.
        arguments: Any further value of transformers' TrainingArguments and TRL's SFTConfig by name,
            as in `arguments.weight_decay = 0.1`. Those set by fields above, and those that would
            change what is saved, are refused.
        launcher: Words put in front of the trainer's command, for several devices or machines:
            `["accelerate", "launch", "--no_python"]`, `["torchrun", "--no-python"]`, `["srun"]`.
    """

    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-5
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    epochs: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    batch_size: Annotated[int, Field(ge=1)] = 8
    gradient_accumulation_steps: Annotated[int, Field(ge=1)] = 1
    instances_per_task: Annotated[int, Field(ge=1)] = 60
    max_length: Annotated[int, Field(ge=2)] | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    gradient_checkpointing: bool = False
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 0
    start_from: Literal["base", "last"] = "base"
    checkpoint_steps: Annotated[int, Field(ge=1)] | None = None
    validation_tasks: Annotated[int, Field(ge=0)] = 0
    validation_instances: Annotated[int, Field(ge=1)] = 20
    packing: bool = False
    attention: str | None = None
    lora: LoraConfig | None = None
    publish: Literal["merged", "adapter"] = "merged"
    report_to: tuple[str, ...] = ()
    arguments: dict[str, Any] = Field(default_factory=dict)
    launcher: tuple[str, ...] = ()

    @property
    def rows_per_step(self) -> int:
        """Rows of an optimiser step on one device."""
        return self.batch_size * self.gradient_accumulation_steps

    @model_validator(mode="after")
    def _leave_our_arguments_alone(self) -> TrainConfig:
        taken = sorted(OWN_ARGUMENTS & self.arguments.keys())
        if taken:
            raise ValueError(f"arguments.{taken[0]} is decided by another field or the trainer")
        if self.publish == "adapter" and self.lora is None:
            raise ValueError('publish = "adapter" needs a section train.lora')
        if self.publish == "adapter" and self.start_from == "last":
            raise ValueError('publish = "adapter" needs start_from = "base", which it belongs to')
        if self.packing and (self.attention or "") not in EXACT_PACKING:
            raise ValueError(
                "packing keeps rows apart only with attention = one of: "
                + ", ".join(sorted(EXACT_PACKING))
            )
        return self
