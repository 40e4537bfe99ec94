"""What goes into a race and comes out of it: its settings, its tasks, its steps, its standings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engine.design.costs import TaskCost
from engine.design.extensions import Scored
from engine.design.measurement import WHOLE
from engine.tasks import Record


class RaceConfig(Record):
    """How a race is run.

    Attributes:
        n_select: How many tasks are wanted, of each stratum.
        budget: Computed tokens to spend at most, over all tasks.
        start_instances: Instances every task starts with.
        start_perturbations: Perturbations every task starts with.
        max_perturbations: Perturbations at most.
        batch: Tasks extended between two decisions; none: one in 25, at least two.
        width: Half width of an interval, in deviations of the posterior.
        rule: What is extended next, see `engine.design.race_rules`.
        prefixes_kept: Whether the engine's cache holds all prefixes from one visit of a task to the
            next, so that further instances do not pay for them again.
    """

    n_select: int
    budget: float
    start_instances: int = 2
    start_perturbations: int = 1
    max_perturbations: int = WHOLE
    batch: int | None = None
    width: float = 2.0
    rule: Literal["doubt", "lucb"] = "doubt"
    prefixes_kept: bool = False


@dataclass(frozen=True, slots=True)
class Runner:
    """A task in the race.

    Attributes:
        task_id: The task.
        cost: What its pairs cost.
        max_instances: Instances it has.
        stratum: The group inside which it competes.
        shifts: How far each of its perturbations is expected to shift the model, known before any
            pair is scored; see `engine.design.measurement.prompt_shifts`. None: all are alike.
    """

    task_id: str
    cost: TaskCost
    max_instances: int
    stratum: str = ""
    shifts: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Extension:
    """The table that a task is to have next.

    Attributes:
        task_id: The task.
        scored: Which pairs it holds, shape (instances, perturbations); those that have been scored
            are among them. New instances all meet the same perturbations, one after the other.
        tokens: Computed tokens that the step costs.
    """

    task_id: str
    scored: Scored
    tokens: float


class Standing(Record):
    """Where a task stands.

    Attributes:
        task_id: The task.
        selected: Whether it is among the top N of its stratum, by `ranking_estimate`.
        is_open: Whether its interval leaves that undecided.
        prompt_uncertainty: U, the plain mean of its moves.
        standard_error: Of U, over repeats with other instances and perturbations.
        ranking_estimate: What its whole design would give, guessed with the help of the other
            tasks; see `engine.design.assisted`.
        ranking_error: Its standard error.
        low: Lower end of the interval of that guess, in [0, 1].
        high: Upper end.
        n_instances: Instances measured.
        n_perturbations: Perturbations measured.
        pairs: Pairs scored, originals included.
    """

    task_id: str
    selected: bool
    is_open: bool
    prompt_uncertainty: float
    standard_error: float
    ranking_estimate: float
    ranking_error: float
    low: float
    high: float
    n_instances: int
    n_perturbations: int
    pairs: int
