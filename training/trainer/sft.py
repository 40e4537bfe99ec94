"""The trainer process: `python -m training.trainer.sft JOB.json`, or `-` to wait for its job.

Runs TRL's SFTTrainer on rows of token ids with the loss on completions only, writes a checkpoint
folder, and computes the probes of its manifest from the model in memory.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import polars as pl
import torch
from datasets import Dataset  # type: ignore[import-untyped]
from transformers import AutoTokenizer, GenerationConfig
from transformers.integrations.deepspeed import unset_hf_deepspeed_config
from transformers.integrations.integration_utils import get_reporting_integration_callbacks
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from engine.errors import InputError, TrainingError
from engine.files import read_json, write_json
from engine.process.lifetime import die_with
from engine.weights.probing import probe_logprobs
from training.config.run_config import TrainConfig
from training.trainer.child_process import PARENT_VARIABLE
from training.trainer.patched_trl import project_completion_rows_only
from training.trainer.resume import check_start, fingerprint
from training.trainer.sft_progress import ProgressWriter
from training.trainer.start_model import adapter_config, check_model, load_model
from training.trainer.trained_model import (
    active_adapter,
    cast,
    gather_state,
    is_sharded,
    save_adapter_files,
    save_model_files,
    unwrapped,
)
from training.trainer.trainer_check import CHECK, TrainerQuestion
from training.trainer.trainer_process import TrainJob, TrainProgress, TrainResult

_VALIDATION: dict[str, Any] = {
    "load_best_model_at_end": True,
    "metric_for_best_model": "eval_loss",
    "greater_is_better": False,
    # The loss of a batch is a mean over its tokens, that of the rows a mean over batches.
    "per_device_eval_batch_size": 1,
    "eval_packing": False,
    "prediction_loss_only": True,
}


def load_rows(path: Path) -> Dataset:
    """The rows as TRL takes pre-tokenised ones: `input_ids` and a mask of the completion."""
    frame = pl.read_parquet(path, glob=False)
    prompts = frame["prompt_token_ids"].to_list()
    completions = frame["completion_token_ids"].to_list()
    pairs = list(zip(prompts, completions, strict=True))
    return Dataset.from_dict(
        {
            "input_ids": [prompt + completion for prompt, completion in pairs],
            "completion_mask": [
                [0] * len(prompt) + [1] * len(completion) for prompt, completion in pairs
            ],
        }
    )


def training_arguments(
    config: TrainConfig, folder: Path, *, validated: bool, longest_row: int
) -> SFTConfig:
    """The trainer's arguments.

    Args:
        folder: Takes checkpoints.
        validated: Whether there are validation rows.
        longest_row: Tokens of the longest row, those of validation among them.

    Raises:
        TrainingError: If `config.arguments` names what TRL does not know, or a wrong value.
    """
    check_names(config)
    saving = "epoch" if validated else "no"
    if config.checkpoint_steps is not None:
        saving = "steps"
    chosen: dict[str, Any] = {
        "output_dir": str(folder),
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": config.schedule,
        "warmup_steps": config.warmup_steps,
        "num_train_epochs": config.epochs,
        "per_device_train_batch_size": config.batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "gradient_checkpointing": config.gradient_checkpointing,
        "seed": config.seed,
        "data_seed": config.seed,
        "completion_only_loss": True,
        # Rows have been measured already; TRL would cut long ones without a word.
        "max_length": None,
        "packing": False,
        "bf16": computed_dtype(config) == torch.bfloat16,
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_pin_memory": torch.cuda.is_available(),
        "logging_steps": 1,
        # It would report a loss that is not finite as 0.
        "logging_nan_inf_filter": False,
        "save_strategy": saving,
        "report_to": list(config.report_to) or "none",
        "disable_tqdm": True,
    }
    if config.packing:
        # TRL packs up to a length, which it takes from max_length; no row is longer.
        chosen |= {"packing": True, "max_length": longest_row}
    if config.checkpoint_steps is not None:
        chosen |= dict.fromkeys(("save_steps", "eval_steps"), config.checkpoint_steps)
    if validated:
        chosen |= _VALIDATION | {"eval_strategy": saving}
    # A config of accelerate has a word for the precision as well; that of `config` counts.
    os.environ.pop("ACCELERATE_MIXED_PRECISION", None)
    try:
        return SFTConfig(**(chosen | config.arguments))
    except (TypeError, ValueError) as error:
        raise TrainingError(f"train.arguments: {error}") from error


def check_names(config: TrainConfig) -> None:
    """`TrainingError` if `config.arguments` names what TRL does not know."""
    if unknown := sorted(config.arguments.keys() - {each.name for each in fields(SFTConfig)}):
        raise TrainingError(f"train.arguments.{unknown[0]}: no such argument of the trainer")


def check_reporting(arguments: SFTConfig) -> None:
    """`TrainingError` if there is nothing by such a name to report to, or it is not installed."""
    for name in arguments.report_to or ():
        try:
            found: Any = get_reporting_integration_callbacks([name])  # type: ignore[no-untyped-call]
            for callback in found:
                callback()
        except (ValueError, RuntimeError, ImportError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise TrainingError(f"train.report_to: {reason}") from error


def computed_dtype(config: TrainConfig) -> torch.dtype:
    """What is computed in, over weights in float32, and what is published."""
    precision = config.precision
    if precision == "auto":
        precision = "bfloat16" if torch.cuda.is_available() else "float32"
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def check_spread(trainer: Any, config: TrainConfig) -> None:
    """`TrainingError` if adapters are to be trained on weights spread over processes."""
    plugin = getattr(trainer.accelerator.state, "deepspeed_plugin", None)
    zero3 = plugin is not None and plugin.zero_stage == 3
    if config.lora is not None and (trainer.is_fsdp_enabled or zero3):
        raise TrainingError("train.lora cannot be combined with FSDP or DeepSpeed's ZeRO-3")


def gather_model(trainer: Any, job: TrainJob) -> Any | None:
    """The trained model, whole, its adapters still apart; nothing but in the first process.

    Where FSDP or DeepSpeed has spread the weights, every process takes part in gathering them, and
    the first puts them into a model of its own.
    """
    first = trainer.is_world_process_zero()
    if not is_sharded(trainer.model):
        return unwrapped(trainer.model) if first else None
    state = gather_state(trainer.model, first=first)
    if state is None:
        return None
    # As long as that is set, all processes would have to load the model together.
    unset_hf_deepspeed_config()  # type: ignore[no-untyped-call]
    model = load_model(job)
    model.load_state_dict(state)
    return model


def check_finite(model: Any) -> None:
    """`TrainingError` if a weight is not finite."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise TrainingError(f"tensor {name} holds NaN or infinity after the training")


def finish(model: Any, job: TrainJob, dtype: torch.dtype, configs: tuple[Any, Any]) -> Any:
    """Write what is published into the job's output folder; the model that it stands for.

    Args:
        model: The trained model, its adapters still apart.
        dtype: Of the weights that are written, and of the model that is returned. An adapter stays
            in float32: the engine merges it in float32.
        configs: The model's config and generation config, as they were before the training.

    Raises:
        TrainingError: If a weight is not finite.
    """
    check_finite(model)
    if job.config.publish == "adapter":
        save_adapter_files(model, job.output, active_adapter(model))
    whole = model if job.config.lora is None else model.merge_and_unload()
    whole.config, whole.generation_config = configs
    cast(whole, dtype)
    if job.config.publish == "merged":
        save_model_files(whole, job.output, job.model, trust_remote_code=job.trust_remote_code)
    return whole


@contextlib.contextmanager
def names_of_modules(model: Any) -> Iterator[None]:
    """Meanwhile the model is saved under the names that it has in memory.

    transformers saves under those of the hub, as which experts are apart and GPT-NeoX has another
    head, and reads a trainer's checkpoints as if they were those in memory: what is named otherwise
    would stay as it was, at an interruption and where the best weights are taken.
    """
    conversions = getattr(model, "_weight_conversions", None)
    if conversions is not None:
        model._weight_conversions = []
    try:
        yield
    finally:
        if conversions is not None:
            model._weight_conversions = conversions


def train(job: TrainJob) -> TrainResult | None:
    """Do the job; the result, or nothing in a process that is not the launcher's first."""
    dtype = computed_dtype(job.config)
    rows = load_rows(job.rows)
    validation = None if job.validation_rows is None else load_rows(job.validation_rows)
    longest = max(len(ids) for each in (rows, validation) if each for ids in each["input_ids"])
    arguments = training_arguments(
        job.config, job.attempt, validated=validation is not None, longest_row=longest
    )
    writer = ProgressWriter(job.progress, fingerprint(job), active=arguments.process_index == 0)
    writer.write(TrainProgress(phase="loading"))
    model = load_model(job)
    tokenizer = AutoTokenizer.from_pretrained(job.model, trust_remote_code=job.trust_remote_code)
    check_start(job)
    # TRL writes special tokens into both, and at a checkpoint transformers may refuse to save the
    # second, which it has loaded; what is published keeps the model's own.
    configs = copy.deepcopy((model.config, model.generation_config))
    model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    if reason := project_completion_rows_only("cuda" if torch.cuda.is_available() else "cpu"):
        print(f"prompt rows are projected as well, which is slower: {reason}", flush=True)
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        eval_dataset=validation,
        processing_class=tokenizer,
        callbacks=[writer],
        peft_config=adapter_config(job.config),
    )
    check_spread(trainer, job.config)
    kept: Any = trainer.train_dataset
    assert job.config.packing or len(kept) == len(rows), "TRL dropped rows"
    if job.resume_from is not None:
        writer.go_on_from(job.resume_from, arguments.world_size)
    with names_of_modules(model):
        trainer.train(resume_from_checkpoint=str(job.resume_from) if job.resume_from else None)
    steps = trainer.state.global_step
    writer.write(TrainProgress(phase="saving", step=steps, total=steps))
    trained = gather_model(trainer, job)
    if trained is None:
        return None
    whole = finish(trained, job, dtype, configs)
    history = trainer.state.log_history
    return TrainResult(
        output=job.output,
        base_model=job.model,
        dtype="bfloat16" if dtype == torch.bfloat16 else "float32",
        rows=len(rows),
        steps=steps,
        seconds=writer.seconds,
        seconds_per_step=writer.seconds / steps,
        losses=tuple(float(entry["loss"]) for entry in history if "loss" in entry),
        validation_losses=_validation_losses(history),
        best_step=trainer.state.best_global_step if job.validation_rows is not None else None,
        probes=probe_logprobs(whole, job.probes),
        fingerprint=writer.fingerprint,
    )


def _validation_losses(history: Sequence[dict[str, Any]]) -> tuple[tuple[int, float], ...]:
    return tuple(
        (int(entry["step"]), float(entry["eval_loss"])) for entry in history if "eval_loss" in entry
    )


def main(arguments: Sequence[str]) -> int:
    """Run one job file; the exit code. The last line on stderr says what went wrong."""
    if len(arguments) != 1:
        print("usage: python -m training.trainer.sft JOB.json", file=sys.stderr)
        return 2
    # With a launcher the parent is the launcher, or what it has started on another machine.
    die_with(int(os.environ.get(PARENT_VARIABLE, os.getppid())))
    try:
        job_file = arguments[0]
        if job_file == CHECK:
            question = TrainerQuestion.model_validate_json(sys.stdin.read())
            config = question.config
            check_names(config)
            if question.model is not None:
                check_model(question)
            elif not config.launcher:  # it may train on another machine, with other devices
                validated = config.validation_tasks > 0
                chosen = training_arguments(
                    config, Path("unused"), validated=validated, longest_row=1
                )
                check_reporting(chosen)
            return 0
        if job_file == "-":
            told = sys.stdin.read()
            if not told:  # there is no job
                return 0
            job_file, log = json.loads(told)
            with Path(log).open("wb") as stream:
                for output in (sys.stdout, sys.stderr):
                    os.dup2(stream.fileno(), output.fileno())
        job = read_json(Path(job_file), TrainJob)
        result = train(job)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except TrainingError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:  # such as a full disk
        print(f"cannot be read or written: {error}", file=sys.stderr)
        return 1
    if result is not None:
        write_json(job.result, result.model_dump(mode="json"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
