"""Where a run stands: the ordered steps, which of them are done, and what they belong to."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, model_validator

from engine.errors import InputError
from engine.files import read_json, write_bytes, write_json
from engine.protocol.weights_state import WeightsState
from engine.tasks import Pool, Record
from training.config.run_config import RunConfig, config_differences, load_config
from training.run.run_folder import RunFolder
from training.run.task_digests import TaskDigests


class RunStep(StrEnum):
    """What a round is made of. Each step may be repeated from its start with the same effect."""

    BEFORE = "before"
    """Evaluation of the base model; stands ahead of the first round."""
    SCORE = "score"
    SELECT = "select"
    TRAIN = "train"
    PUBLISH = "publish"
    RELOAD = "reload"
    EVALUATE = "evaluate"


ROUND_STEPS = tuple(step for step in RunStep if step != RunStep.BEFORE)
"""The steps of every round, in order."""


class StepRecord(Record):
    """A step that is done.

    Attributes:
        round: The round; 0 for `before`.
        step: The step.
        seconds: How long it took, in the process that finished it.
        weights_version: The version that was live when it was done. A publish names the version
            it published, which is not live yet.
    """

    round: Annotated[int, Field(ge=0)]
    step: RunStep
    seconds: Annotated[float, Field(ge=0)]
    weights_version: str


class RunState(Record):
    """Content of `state.json`.

    Attributes:
        schema_version: Of this record.
        config_digest: Of the resolved config.
        pool_digest: Of the pool.
        held_out_digest: Of the held-out tasks.
        base: The base model's weights, as the engine names them.
        rounds: How many rounds the run has, the initial one included.
        initial: Whether the first of them is the initial one, which scores nothing.
        current_round: The round of the next step; none when the run is done.
        current_step: The next step; none when the run is done.
        completed: The steps that are done, in order. Always a beginning of the plan.
    """

    schema_version: Literal[2] = 2
    config_digest: str
    pool_digest: str
    held_out_digest: str
    base: WeightsState
    rounds: Annotated[int, Field(ge=1)]
    initial: bool = False
    current_round: int | None = 0
    current_step: RunStep | None = RunStep.BEFORE
    completed: tuple[StepRecord, ...] = ()

    @model_validator(mode="after")
    def _follow_the_plan(self) -> RunState:
        done = [(record.round, record.step) for record in self.completed]
        steps = plan(self.rounds, self.initial)
        if done != steps[: len(done)]:
            raise ValueError("the completed steps are not a beginning of the plan")
        if (self.current_round, self.current_step) != _next(steps, len(done)):
            raise ValueError("the current step does not follow the completed ones")
        return self

    @property
    def live_version(self) -> str:
        """The version that must be live now: of the last reload, or the base model's."""
        reloads = [record for record in self.completed if record.step == RunStep.RELOAD]
        return reloads[-1].weights_version if reloads else self.base.version

    @property
    def live_round(self) -> int | None:
        """The round whose checkpoint must be live now; none for the base model."""
        reloads = [record.round for record in self.completed if record.step == RunStep.RELOAD]
        return reloads[-1] if reloads else None

    @property
    def has_trained(self) -> bool:
        """Whether a training has ended."""
        return any(record.step == RunStep.TRAIN for record in self.completed)

    def is_done(self, n_steps: int | None = None) -> bool:
        """Whether all steps are done, or so many of them."""
        return self.current_step is None or (n_steps is not None and len(self.completed) >= n_steps)

    def published_version(self, round_index: int) -> str:
        """The version that a round published; `KeyError` before it did."""
        for record in self.completed:
            if (record.round, record.step) == (round_index, RunStep.PUBLISH):
                return record.weights_version
        raise KeyError(round_index)

    def complete(self, seconds: float, weights_version: str) -> RunState:
        """The state after the current step.

        Args:
            weights_version: See `StepRecord`.
        """
        assert self.current_round is not None
        assert self.current_step is not None
        record = StepRecord(
            round=self.current_round,
            step=self.current_step,
            seconds=seconds,
            weights_version=weights_version,
        )
        completed = (*self.completed, record)
        round_index, step = _next(plan(self.rounds, self.initial), len(completed))
        return self.model_copy(
            update={"completed": completed, "current_round": round_index, "current_step": step}
        )


def plan(rounds: int, initial: bool = False) -> list[tuple[int, RunStep]]:
    """All steps of a run in order; an initial round has no score step."""
    of_rounds = ((index, step) for index in range(rounds) for step in ROUND_STEPS)
    steps = [(0, RunStep.BEFORE), *of_rounds]
    return [each for each in steps if not (initial and each == (0, RunStep.SCORE))]


def _next(steps: list[tuple[int, RunStep]], done: int) -> tuple[int | None, RunStep | None]:
    return steps[done] if done < len(steps) else (None, None)


def read_state(folder: RunFolder) -> RunState:
    """What `state.json` says.

    Raises:
        InputError: If the folder holds no run, or the file is broken.
    """
    if not folder.state.is_file():
        raise InputError("holds no run (it has no state.json)", file=folder.path)
    return read_json(folder.state, RunState)


def save_state(folder: RunFolder, state: RunState) -> None:
    """Write `state.json` atomically."""
    write_json(folder.state, state.model_dump(mode="json"))


def open_run(
    folder: RunFolder, config: RunConfig, pool: Pool, held_out: Pool, base: WeightsState
) -> RunState:
    """Start a run, or find where an earlier start of the same run got to.

    Args:
        pool: The tasks that are scored and trained on.
        base: What the engine says of the base model; only a new run takes it.

    Raises:
        InputError: If the folder belongs to a run with another config or other tasks; the message
            says what differs.
    """
    state = find_state(folder, config, pool, held_out)
    if state is not None:
        return _under(config, folder, state)
    state = RunState(
        config_digest=config.digest(),
        pool_digest=pool.digest(),
        held_out_digest=held_out.digest(),
        base=base,
        rounds=config.total_rounds,
        initial=config.initial.n_tasks > 0,
    )
    write_bytes(folder.config, config.to_toml().encode())
    write_json(folder.tasks, TaskDigests.of(pool, held_out).model_dump(mode="json"))
    save_state(folder, state)
    return state


def _under(config: RunConfig, folder: RunFolder, state: RunState) -> RunState:
    """The state of a run that goes on under a config whose training may have been corrected."""
    if state.has_trained:
        return state
    # First the state: after a kill in between, the corrected config goes on.
    state = state.model_copy(update={"config_digest": config.digest()})
    save_state(folder, state)
    write_bytes(folder.config, config.to_toml().encode())
    return state


def find_state(folder: RunFolder, config: RunConfig, pool: Pool, held_out: Pool) -> RunState | None:
    """The state of the run in a folder; none if there is no run yet.

    Raises:
        InputError: See `open_run`.
    """
    if not folder.state.is_file():
        return None
    state = read_state(folder)
    check_same_run(folder, state, config)
    given = {"pool_digest": pool.digest(), "held_out_digest": held_out.digest()}
    for field, digest in given.items():
        if getattr(state, field) != digest:
            started_with = read_json(folder.tasks, TaskDigests)
            differences = started_with.differences(TaskDigests.of(pool, held_out))
            raise InputError(
                "the run was started with other tasks; take another run folder or undo: "
                + ("; ".join(differences) or "their order"),
                file=folder.state,
                field=field,
            )
    return state


def check_same_run(folder: RunFolder, state: RunState, config: RunConfig) -> None:
    """Refuse to go on with a run under a config by which something else would come out.

    How it trains decides nothing before its first training has ended, and may be corrected.

    Raises:
        InputError: Listing the fields that differ.
    """
    if state.config_digest == config.digest():
        return
    begun = load_config(folder.config)
    differences = config_differences(begun, config, trained=state.has_trained)
    if not differences and state.config_digest == begun.digest():
        return
    raise InputError(
        "the run was started with another config; take another run folder or undo: "
        + "; ".join(differences or ["config.resolved.toml has been edited"]),
        file=folder.config,
    )
