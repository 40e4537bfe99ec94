"""The one config of a run: what `config.resolved.toml` holds."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import Field, ValidationError

from engine.config import ScoreConfig
from engine.errors import InputError
from engine.pools.options import Columns
from engine.tasks import Record


class ModelConfig(Record):
    """Which model is trained and served.

    Attributes:
        name: `smollm2-135m` (bundled), a hub id or a folder.
        trust_remote_code: Whether code that comes with the model may run.
        max_model_len: Context length of the engine, in tokens. It decides how many examples fit a
            prompt, in scoring, training and evaluation alike.
    """

    name: Annotated[str, Field(min_length=1)] = "smollm2-135m"
    trust_remote_code: bool = False
    max_model_len: Annotated[int, Field(ge=64)] = 2048


class PoolConfig(Record):
    """Which tasks are scored and trained on, and which are held out.

    Attributes:
        path: `bundled`, or a file, a folder or a data set; see `engine.pools.open_pool`.
        format: A name listed in `engine.pools.formats.FORMATS`; detected when unset.
        columns: Which column of a file or data set is what.
        split: Split of a data set, or of a folder with split files.
        max_instances: Keep this many instances of each task, drawn with the run's seed; all when
            unset. It bounds the memory that a large pool takes.
        max_tasks: Take this many tasks of the pool, drawn with the run's seed; all when unset.
        held_out: `auto`, `bundled`, or another pool, which is read like the first. `auto` takes the
            bundled held-out tasks beside the bundled pool; of any other it takes the split that
            lies beside it, or else whole categories, or else a random part
            (`training.pools.split`).
        held_out_split: Split of that other pool.
        max_held_out_tasks: Evaluate on at most this many held-out tasks; all when unset.
    """

    path: Annotated[str, Field(min_length=1)] = "bundled"
    format: str | None = None
    columns: Columns = Columns()
    split: Annotated[str, Field(min_length=1)] | None = None
    max_instances: Annotated[int, Field(ge=1)] | None = None
    max_tasks: Annotated[int, Field(ge=1)] | None = None
    held_out: Annotated[str, Field(min_length=1)] = "auto"
    held_out_split: Annotated[str, Field(min_length=1)] | None = None
    max_held_out_tasks: Annotated[int, Field(ge=1)] | None = None


class SelectConfig(Record):
    """How tasks are chosen.

    Attributes:
        strategy: A name listed in `training.selection.STRATEGIES`.
        n_tasks: Tasks selected per round.
    """

    strategy: Annotated[str, Field(min_length=1)] = "prompt_uncertainty"
    n_tasks: Annotated[int, Field(ge=1)] = 8


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
            reported, never cut. The model's context length when unset.
        precision: `auto` is float32 on CPU and bfloat16 on CUDA. With bfloat16 the optimiser still
            keeps float32 weights; what is written and probed is bfloat16.
        gradient_checkpointing: Trade time (a third more) for memory.
        seed: Seed of the instance sample and of the row order.
        start_from: `base` trains the base model on all tasks selected so far (as Kung et al., 2023,
            do); `last` trains the last checkpoint on the newly selected tasks.
        launcher: Words put in front of the trainer's command, for several devices or machines:
            `["accelerate", "launch", "--no_python"]`, `["torchrun", "--no-python"]`, `["srun"]`.
    """

    learning_rate: Annotated[float, Field(gt=0)] = 1e-5
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    epochs: Annotated[float, Field(gt=0)] = 1.0
    batch_size: Annotated[int, Field(ge=1)] = 8
    gradient_accumulation_steps: Annotated[int, Field(ge=1)] = 1
    instances_per_task: Annotated[int, Field(ge=1)] = 60
    max_length: Annotated[int, Field(ge=2)] | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    gradient_checkpointing: bool = False
    seed: int = 0
    start_from: Literal["base", "last"] = "base"
    launcher: tuple[str, ...] = ()


class EvaluateConfig(Record):
    """How the held-out tasks are evaluated.

    Attributes:
        instances_per_task: Instances with gold outputs of each task, at most.
        max_new_tokens: Longest greedy output, in tokens.
        seed: Seed of the instance sample; the same instances in every round.
    """

    instances_per_task: Annotated[int, Field(ge=1)] = 100
    max_new_tokens: Annotated[int, Field(ge=1, le=4_096)] = 128
    seed: int = 0


class RunConfig(Record):
    """Everything a run depends on, beside the files it names.

    Attributes:
        model: The model.
        pool: The tasks.
        score: The design of scoring.
        select: The choice of tasks.
        train: The fine-tuning.
        evaluate: The evaluation.
        rounds: How often score, select, train, publish, reload, evaluate is gone through.
        seed: Seed of everything that has no seed of its own.
    """

    model: ModelConfig = ModelConfig()
    pool: PoolConfig = PoolConfig()
    score: ScoreConfig = ScoreConfig()
    select: SelectConfig = SelectConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    rounds: Annotated[int, Field(ge=1, le=1_000)] = 2
    seed: int = 0

    @property
    def max_row_length(self) -> int:
        """Longest training row, in tokens."""
        return min(self.train.max_length or self.model.max_model_len, self.model.max_model_len)

    def digest(self) -> str:
        """sha256 of the resolved config, as 64 hex digits: the config's part of every cache key."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def to_toml(self) -> str:
        """The resolved config as TOML; fields that are unset are left out."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


def parse_config(values: dict[str, Any], source: object) -> RunConfig:
    """A config from nested values, unknown keys being errors.

    Args:
        values: Sections and fields, as TOML gives them.
        source: The file they came from, for messages.

    Raises:
        InputError: Naming the file and the field.
    """
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        problem = first["msg"]
        if first["type"] == "extra_forbidden":
            problem = f"unknown key; valid here: {', '.join(_valid_keys(first['loc']))}"
        raise InputError(problem, file=source, field=field) from error


def load_config(path: Path) -> RunConfig:
    """Read a config file.

    Raises:
        InputError: If the file cannot be read, is not TOML, or does not follow the schema.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read: {error}", file=path) from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"not valid TOML: {error}", file=path) from error
    _read_template(values, path)
    return parse_config(values, path)


def _read_template(values: dict[str, Any], path: Path) -> None:
    """Puts the text of a template in the place of the file's name, for a config says it all."""
    section: Any = values
    for name in ("score", "prompt"):
        section = section.get(name) if isinstance(section, dict) else None
    named = section.pop("template_file", None) if isinstance(section, dict) else None
    if named is None:
        return
    field = "score.prompt.template_file"
    if "template" in section:
        raise InputError("a template is given as well", file=path, field=field)
    try:
        section["template"] = (path.parent / str(named)).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read: {error}", file=path, field=field) from error
    section["template_name"] = str(named)


def config_differences(left: RunConfig, right: RunConfig) -> list[str]:
    """The fields in which two configs differ, as `field: left -> right` lines."""
    old, new = _flatten(left.model_dump(mode="json")), _flatten(right.model_dump(mode="json"))
    return [f"{name}: {old[name]} -> {new[name]}" for name in old if old[name] != new[name]]


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _valid_keys(location: tuple[int | str, ...]) -> list[str]:
    """Names of the fields that stand where an unknown key was found."""
    section: Any = RunConfig
    for part in location[:-1]:
        section = section.model_fields[str(part)].annotation
    return sorted(section.model_fields)
