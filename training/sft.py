"""The trainer process: `python -m training.sft JOB.json`.

Runs TRL's SFTTrainer on rows of token ids with the loss on completions only, writes a checkpoint
folder, and computes the probes of its manifest from the model in memory.
"""

from __future__ import annotations

import copy
import math
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import polars as pl
import torch
import trl.trainer.utils
from datasets import Dataset  # type: ignore[import-untyped]
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from engine.api import TokenPair
from engine.errors import InputError, TrainingError
from engine.lifetime import die_with
from engine.manifest import Probe
from training.config import TrainConfig
from training.records import read_json, write_json
from training.trainer import PARENT_VARIABLE, TrainJob, TrainProgress, TrainResult

TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "vocab*",
    "merges.txt",
    "*.model",
    "*.tiktoken",
)
"""Patterns of the files that are copied from the base model, so that token ids stay the same."""


class ProgressWriter(TrainerCallback):
    """Appends progress lines and keeps what the result needs.

    Args:
        path: The progress file.
        active: Whether this process is the one that reports.
    """

    def __init__(self, path: Path, active: bool = True) -> None:
        self.path = path
        self.active = active
        self.losses: list[float] = []
        self.seconds = 0.0
        self._started = 0.0

    def write(self, progress: TrainProgress) -> None:
        """Append one line."""
        if self.active:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(progress.model_dump_json() + "\n")

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock of a step."""
        self._started = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop it."""
        self.seconds += time.perf_counter() - self._started

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Report the step; the last log of a training is a summary without a loss of its own."""
        if not logs or "loss" not in logs:
            return
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            raise TrainingError(f"the loss of step {state.global_step} is {loss}")
        self.losses.append(loss)
        self.write(
            TrainProgress(
                phase="training",
                step=state.global_step,
                total=state.max_steps,
                loss=loss,
                seconds_per_step=self.seconds / len(self.losses),
            )
        )


def load_rows(path: Path) -> Dataset:
    """The rows as TRL takes pre-tokenised ones: `input_ids` and a mask of the completion."""
    frame = pl.read_parquet(path)
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


def training_arguments(config: TrainConfig, output: Path, mixed: bool) -> SFTConfig:
    """The trainer's arguments.

    Args:
        config: The run's choices.
        output: Where TRL may put files of its own; nothing is saved during the training.
        mixed: Whether to compute in bfloat16 over float32 weights.
    """
    return SFTConfig(
        output_dir=str(output),
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.schedule,
        warmup_steps=config.warmup_steps,
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        gradient_checkpointing=config.gradient_checkpointing,
        seed=config.seed,
        data_seed=config.seed,
        completion_only_loss=True,
        # Rows have been measured already; TRL would cut long ones without a word.
        max_length=None,
        packing=False,
        bf16=mixed,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def project_completion_rows_only(device: str) -> None:
    """On CPU, let TRL's fused output projection leave the prompt rows out, as it does on CUDA.

    TRL 1.16 asks `_use_triton` whether to drop positions without a label before the projection onto
    the vocabulary, and on CPU projects all of them. The loss is the same either way; for a small
    model with a large vocabulary this is a third of the time. Where TRL has no such switch, nothing
    changes.
    """
    if device == "cpu" and hasattr(trl.trainer.utils, "_use_triton"):
        trl.trainer.utils._use_triton = lambda _device: True


def probe_logprobs(model: Any, pairs: Sequence[TokenPair]) -> tuple[Probe, ...]:
    """Log-probabilities under the model in memory: eval mode, log-softmax in float32."""
    model.eval()
    probes = []
    for pair in pairs:
        ids = [*pair.prompt_token_ids, *pair.completion_token_ids]
        inputs = torch.tensor([ids], device=model.device)
        start = len(pair.prompt_token_ids)
        with torch.no_grad():
            logits = model(input_ids=inputs, use_cache=False).logits[0, start - 1 : -1]
        table = torch.log_softmax(logits.float(), dim=-1)
        chosen = table.gather(1, inputs[0, start:, None])[:, 0]
        probes.append(
            Probe(
                prompt_token_ids=pair.prompt_token_ids,
                completion_token_ids=pair.completion_token_ids,
                token_logprobs=tuple(min(value, 0.0) for value in chosen.tolist()),
            )
        )
    return tuple(probes)


def save_checkpoint(model: Any, job: TrainJob) -> None:
    """Write weights, config and tokenizer files into the job's output folder.

    Raises:
        TrainingError: If a weight is not finite.
    """
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise TrainingError(f"tensor {name} holds NaN or infinity after the training")
    model.save_pretrained(job.output)
    base = Path(job.model)
    if not base.is_dir():
        tokenizer = AutoTokenizer.from_pretrained(
            job.model, trust_remote_code=job.trust_remote_code
        )
        tokenizer.save_pretrained(job.output)
        return
    # Copied, not saved anew: TRL has set a padding token on the tokenizer it was given.
    for pattern in TOKENIZER_FILES:
        for source in base.glob(pattern):
            if source.is_file():
                shutil.copyfile(source, job.output / source.name)


def train(job: TrainJob) -> TrainResult | None:
    """Do the job; the result, or nothing in a process that is not the launcher's first."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    low = job.config.precision == "bfloat16" or (
        job.config.precision == "auto" and device == "cuda"
    )
    dtype: Literal["bfloat16", "float32"] = "bfloat16" if low else "float32"
    writer = ProgressWriter(job.progress, active=False)
    arguments = training_arguments(job.config, job.output, mixed=low)
    writer.active = arguments.process_index == 0
    writer.write(TrainProgress(phase="loading"))
    # The optimiser needs float32 weights: bfloat16 would swallow small updates.
    model = AutoModelForCausalLM.from_pretrained(
        job.model, dtype=torch.float32, trust_remote_code=job.trust_remote_code
    )
    tokenizer = AutoTokenizer.from_pretrained(job.model, trust_remote_code=job.trust_remote_code)
    # TRL writes special tokens into both; the published checkpoint keeps the model's own.
    configs = copy.deepcopy((model.config, model.generation_config))
    rows = load_rows(job.rows)
    project_completion_rows_only(device)
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        processing_class=tokenizer,
        callbacks=[writer],
    )
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise TrainingError("sharded training (FSDP, DeepSpeed) is not supported yet")
    kept: Any = trainer.train_dataset
    assert len(kept) == len(rows), "TRL dropped rows"
    trainer.train()
    if not trainer.is_world_process_zero():
        return None
    steps = trainer.state.global_step
    writer.write(TrainProgress(phase="saving", step=steps, total=steps))
    model = trainer.accelerator.unwrap_model(trainer.model)
    model.config, model.generation_config = configs
    model.to(getattr(torch, dtype))
    save_checkpoint(model, job)
    return TrainResult(
        output=job.output,
        base_model=job.model,
        dtype=dtype,
        rows=len(rows),
        steps=steps,
        seconds=writer.seconds,
        seconds_per_step=writer.seconds / steps,
        losses=tuple(writer.losses),
        probes=probe_logprobs(model, job.probes),
    )


def main(arguments: Sequence[str]) -> int:
    """Run one job file; the exit code. The last line on stderr says what went wrong."""
    if len(arguments) != 1:
        print("usage: python -m training.sft JOB.json", file=sys.stderr)
        return 2
    if PARENT_VARIABLE in os.environ:
        die_with(int(os.environ[PARENT_VARIABLE]))
    try:
        job = read_json(Path(arguments[0]), TrainJob)
        result = train(job)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except TrainingError as error:
        print(error, file=sys.stderr)
        return 1
    if result is not None:
        write_json(job.result, result.model_dump(mode="json"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
