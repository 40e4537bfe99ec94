"""The one config of a run: what `config.resolved.toml` holds."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import Field

from engine.client.paraphrases import asks_for_paraphrases
from engine.errors import InputError
from engine.pools.options import Columns
from engine.protocol.score_config import BASE_MEASURE, ScoreConfig
from engine.questions.question_registry import find_question
from engine.tasks import Record
from engine.validation import validated
from training.config.toml_file import put_template, read_toml, resolve_paths
from training.config.train_config import WITHOUT_EFFECT, LoraConfig, TrainConfig
from training.selection import AnyStrategy
from training.selection.ranking import PromptUncertainty

__all__ = [
    "CheckpointConfig",
    "EngineConfig",
    "EvaluateConfig",
    "InitialConfig",
    "LoraConfig",
    "ModelConfig",
    "PoolConfig",
    "RaceBudget",
    "RunConfig",
    "SelectConfig",
    "TrainConfig",
    "config_differences",
    "load_config",
    "parse_config",
]

UNBOUND: Any = {"engine": {"urls", "port", "while_training"}, "checkpoints": True}
"""What decides where work is done and what is kept, and so may change between two starts."""


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
        max_instances: Keep this many instances of each task, drawn with `evaluate.seed`; all when
            unset. It bounds the memory that a large pool takes.
        max_tasks: Take this many tasks of the pool, drawn with the run's seed; all when unset.
        held_out: `auto`, `bundled`, or another pool, which is read like the first. `auto` takes the
            bundled held-out tasks beside the bundled pool; of any other it takes the split that
            lies beside it, or else whole categories, or else a random part
            (`training.run.run_pools.split`), drawn with `evaluate.seed`.
        held_out_split: Split of that other pool.
        skip_faulty: Leave out, of both, what cannot be read, has no gold output or does not fit the
            model's context, and list it in `skipped.jsonl` of the run folder; otherwise the first
            such thing ends the run before anything is started. Tasks at which the engine fails in
            a round are left out of it and listed in `skipped.jsonl` of its folder; otherwise the
            first one ends the run.
        max_held_out_tasks: Evaluate on at most this many held-out tasks, drawn with
            `evaluate.seed`; all when unset.
    """

    path: Annotated[str, Field(min_length=1)] = "bundled"
    format: str | None = None
    columns: Columns = Columns()
    split: Annotated[str, Field(min_length=1)] | None = None
    max_instances: Annotated[int, Field(ge=1)] | None = None
    max_tasks: Annotated[int, Field(ge=1)] | None = None
    held_out: Annotated[str, Field(min_length=1)] = "auto"
    held_out_split: Annotated[str, Field(min_length=1)] | None = None
    skip_faulty: bool = False
    max_held_out_tasks: Annotated[int, Field(ge=1)] | None = None


class RaceBudget(Record):
    """Scoring by a race, as `jostle race` does: pairs go where it is open who is among the
    `n_tasks` most uncertain.

    Attributes:
        budget: Tokens that the engine may compute in the scoring of a round, at most. With engines
            that run already (`engine.urls`) in half precision, second readings come on top, unless
            `score.second_readings` says how many.
        prefixes_kept: Whether the engine's cache holds the prompts of all tasks; not with several
            engines.
    """

    budget: Annotated[int, Field(ge=1)]
    prefixes_kept: bool = False


class SelectConfig(Record):
    """How tasks are chosen.

    Attributes:
        strategy: A name listed by `jostle strategies`; or a table of `name` and the strategy's
            settings.
        n_tasks: Tasks selected per round.
        race: Spend a budget of tokens on each round's scoring instead of the design of `score`.
            The strategy `prompt_uncertainty` then ranks by the column `ranking_estimate`.
    """

    strategy: AnyStrategy = PromptUncertainty()
    n_tasks: Annotated[int, Field(ge=1)] = 8
    race: RaceBudget | None = None


class EvaluateConfig(Record):
    """How the held-out tasks are evaluated.

    Attributes:
        instances_per_task: Instances with gold outputs of each task, at most.
        max_new_tokens: Longest greedy output, in tokens.
        seed: Seed of all that weights are compared on: which tasks are held out, which of their
            instances are answered, which tasks are for validation. It does not follow the run's
            seed, so that all rounds, and all runs of a sweep, are compared on the same.
        gold_perplexity: Whether to score the gold outputs too.
    """

    instances_per_task: Annotated[int, Field(ge=1)] = 100
    max_new_tokens: Annotated[int, Field(ge=1, le=4_096)] = 128
    seed: int = 0
    gold_perplexity: bool = False


class InitialConfig(Record):
    """The first training, before anything has been scored (Kung et al., 2023, section 4.1).

    Attributes:
        n_tasks: Tasks drawn at random with the run's seed and trained on in a round of their own;
            0: there is no such round, and the first scoring is the base model's.
    """

    n_tasks: Annotated[int, Field(ge=0)] = 0


class EngineConfig(Record):
    """Which engine asks the model.

    Attributes:
        urls: Engines that run already, without `/v1`; they must be able to read the run folder.
            None: the run starts one of its own. The key is taken from `JOSTLE_API_KEY`.
        flags: Further vLLM flags of an engine of its own, in the form `--name=value`.
        port: Port of an engine of its own; a free one when unset.
        while_training: What becomes of an engine of its own while the trainer works: `keep` it;
            `stop` it, so that both may use the whole of one device, and start it again afterwards;
            or have it `sleep` (on CUDA): it frees all memory but its own work space and loads its
            weights again, in a second. `auto` keeps it where both fit one GPU, the engine with the
            memory that is left, and where there is none (`training.run.device_plan`).
        long_running: Whether the run is long enough for the engine to compile the model first.
    """

    urls: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    port: Annotated[int, Field(ge=1, le=65_535)] | None = None
    while_training: Literal["auto", "keep", "sleep", "stop"] = "auto"
    long_running: bool = False


class CheckpointConfig(Record):
    """Which published checkpoints stay. The live one and the last good one always do.

    Attributes:
        keep_last: Checkpoints of this many last rounds; all when unset.
        keep_best: Whether the checkpoint with the highest ROUGE-L stays too.
    """

    keep_last: Annotated[int, Field(ge=1)] | None = None
    keep_best: bool = True


class RunConfig(Record):
    """Everything a run depends on, beside the files it names.

    Relative paths start from the config file's folder: pools, a model's folder, a template, files
    named in `train.launcher`, `train.arguments` and `engine.flags`. Those of `--set` start from the
    current folder.

    Attributes:
        model: The model.
        pool: The tasks.
        score: The design of scoring.
        initial: The first training, on tasks drawn at random.
        select: The choice of tasks.
        train: The fine-tuning.
        evaluate: The evaluation.
        engine: The engine.
        checkpoints: Which checkpoints stay.
        rounds: How often score, select, train, publish, reload, evaluate is gone through; the
            initial round comes on top.
        seed: Seed of everything that has no seed of its own.
    """

    model: ModelConfig = ModelConfig()
    pool: PoolConfig = PoolConfig()
    score: ScoreConfig = ScoreConfig()
    initial: InitialConfig = InitialConfig()
    select: SelectConfig = SelectConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    engine: EngineConfig = EngineConfig()
    checkpoints: CheckpointConfig = CheckpointConfig()
    rounds: Annotated[int, Field(ge=1, le=1_000)] = 2
    seed: int = 0

    @property
    def total_rounds(self) -> int:
        """Rounds with a training in them, the initial one included."""
        return self.rounds + (self.initial.n_tasks > 0)

    @property
    def max_row_length(self) -> int:
        """Longest training row, in tokens."""
        return min(self.train.max_length or self.model.max_model_len, self.model.max_model_len)

    def digest(self) -> str:
        """sha256 of what results depend on, as 64 hex digits: the config's part of every cache key.

        `UNBOUND` fields are left out: a run may go on with another engine.
        """
        return hashlib.sha256(self.model_dump_json(exclude=UNBOUND).encode()).hexdigest()

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
    config = validated(RunConfig, values, source)
    find_question(config.score, source, "score.")
    if config.select.race is not None:
        check_racing(config.score, source, "score.")
        strategy = config.select.strategy
        if isinstance(strategy, PromptUncertainty) and strategy.direction == "low":
            problem = "a race is for the most uncertain tasks, not for the least"
            raise InputError(problem, file=source, field="select.strategy.direction")
    return config


def check_racing(config: ScoreConfig, source: object, section: str = "") -> None:
    """That a race can go by this config.

    Args:
        source: The file it came from, for messages.
        section: Where it stands there, with a dot.

    Raises:
        InputError: If it measures something else, or asks for paraphrases: what a race costs is
            known before the engine runs, paraphrases are not.
    """
    if config.measure != BASE_MEASURE:
        problem = f"a race goes by {BASE_MEASURE}"
        raise InputError(problem, file=source, field=f"{section}measure")
    if asks_for_paraphrases(config):
        problem = "a race cannot ask for paraphrases; a design of fixed size can"
        raise InputError(problem, file=source, field=f"{section}perturbation")


def load_config(path: Path) -> RunConfig:
    """Read a config file.

    Raises:
        InputError: If the file cannot be read, is not TOML, or does not follow the schema.
    """
    return parse_config(load_values(path), path)


def load_values(path: Path) -> dict[str, Any]:
    """What a config file says, before it is held against the schema.

    Relative paths in it start from the file's folder.

    Raises:
        InputError: If the file, or a template that it names, cannot be read, or is not TOML.
    """
    values = read_toml(path)
    complete(values, path.parent, path)
    return values


def complete(values: dict[str, Any], folder: Path, source: object) -> None:
    """Put in what a config's values name: the template's text, and absolute paths.

    Args:
        values: Sections and fields, changed in place.
        folder: Where relative paths start from.
        source: Where the values come from, for messages.

    Raises:
        InputError: If a template cannot be read.
    """
    score = values.get("score")
    prompt = score.get("prompt") if isinstance(score, dict) else None
    put_template(prompt, folder, source, "score.prompt")
    resolve_paths(values, folder)


def config_differences(left: RunConfig, right: RunConfig, *, trained: bool = True) -> list[str]:
    """The fields in which two configs differ, as `field: left -> right`.

    Those aside that a run may change on its way: `UNBOUND`, and of the training in how many pieces
    a step is computed.

    Args:
        trained: Whether a training has ended; before, all of it but the validation tasks is aside.
    """
    aside = UNBOUND
    if not trained:
        aside = UNBOUND | {"train": TrainConfig.model_fields.keys() - {"validation_tasks"}}
    elif left.train.rows_per_step == right.train.rows_per_step:
        pieces = WITHOUT_EFFECT - {"launcher"}  # which decides how many processes take such steps
        aside = UNBOUND | {"train": pieces}
    old, new = (_flatten(each.model_dump(mode="json", exclude=aside)) for each in (left, right))
    names = [*old, *(name for name in new if name not in old)]
    return [
        f"{name}: {old.get(name)} -> {new.get(name)}"
        for name in names
        if old.get(name) != new.get(name)
    ]


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat
