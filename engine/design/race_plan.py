"""A whole race over a running engine, from a pool to its result."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from engine.design.costs import TaskCost
from engine.design.entries import RaceConfig, Runner, Standing
from engine.design.live_race import LiveTables
from engine.design.measurement import WHOLE, prompt_shifts
from engine.design.race_rules import Race
from engine.errors import InputError
from engine.prompts import PromptBuilder
from engine.protocol.api import SkippedTask, Usage
from engine.protocol.score_config import ScoreConfig
from engine.questions.pair_plan import is_measurable, plan_task
from engine.tasks import Record, Task

_COUNTED = 4  # instances per task whose tokens are counted


class RaceResult(Record):
    """What a race came to.

    Attributes:
        config: How it was run.
        tokens: Computed tokens that it spent, by the cost model.
        usage: What the engine counted.
        standings: Every task that took part, in pool order.
        unmeasurable: Ids of others: no perturbed prompt of theirs differs from its original.
        skipped: The rest: the engine failed at them.
    """

    config: RaceConfig
    tokens: float
    usage: Usage
    standings: tuple[Standing, ...]
    unmeasurable: tuple[str, ...] = ()
    skipped: tuple[SkippedTask, ...] = ()

    @property
    def selected(self) -> tuple[str, ...]:
        """Ids of the top tasks, largest ranking estimate first."""
        inside = [standing for standing in self.standings if standing.selected]
        ranked = sorted(inside, key=lambda standing: -standing.ranking_estimate)
        return tuple(standing.task_id for standing in ranked)

    @property
    def open(self) -> tuple[str, ...]:
        """Ids of the tasks whose membership the budget left open, in pool order."""
        return tuple(standing.task_id for standing in self.standings if standing.is_open)


def plan_race(
    tasks: Iterable[Task],
    config: ScoreConfig,
    builder: PromptBuilder,
    race_config: RaceConfig,
    *,
    by_category: bool = False,
    on_task: Callable[[int], None] | None = None,
) -> Race:
    """A race for the top N of a pool, with what its pairs will cost; nothing is scored yet.

    Args:
        tasks: The pool; of instances that cannot be scored see `fit_instances`.
        config: Prompts, perturbations and seed; its design is not used.
        race_config: How many are wanted, and the budget.
        by_category: Whether the top N of every category are wanted, instead of the whole pool's.
        on_task: Called with the number of tasks whose prompts have been measured.

    Raises:
        InputError: If the budget does not pay for the start, or see `plan_runners`.
    """
    most = race_config.max_perturbations
    found = plan_runners(tasks, config, builder, most, by_category=by_category, on_task=on_task)
    unmeasurable = [task_id for task_id, runner in found.items() if runner is None]
    return Race([*filter(None, found.values())], race_config, unmeasurable=unmeasurable)


def plan_runners(
    tasks: Iterable[Task],
    config: ScoreConfig,
    builder: PromptBuilder,
    max_perturbations: int,
    *,
    by_category: bool = False,
    on_task: Callable[[int], None] | None = None,
) -> dict[str, Runner | None]:
    """Tasks as they enter a race, by id, see `plan_race`; they depend on no weights.

    None where no perturbation changes a task's prompt.

    Raises:
        InputError: If that is so of all, or one of the instances whose tokens are counted cannot be
            scored.
    """
    found = {}
    for count, task in enumerate(tasks, start=1):
        stratum = (task.category or "") if by_category else ""
        found[task.id] = _runner(task, config, builder, max_perturbations, stratum)
        if on_task is not None:
            on_task(count)
    if found and not any(found.values()):
        raise InputError("no perturbation changes a prompt of any task", field="perturbation")
    return found


def _runner(
    task: Task, config: ScoreConfig, builder: PromptBuilder, max_perturbations: int, stratum: str
) -> Runner | None:
    few = config.with_design(_COUNTED, max_perturbations)
    plan = plan_task(task, few, builder)
    if not is_measurable(plan, few, builder):
        return None
    return Runner(
        task_id=task.id,
        cost=TaskCost.of(plan, few, builder),
        max_instances=len(task.instances),
        stratum=stratum,
        shifts=prompt_shifts(task, config, builder, max_perturbations),
    )


def fit_instances(
    task: Task,
    config: ScoreConfig,
    builder: PromptBuilder,
    max_perturbations: int = WHOLE,
    *,
    source: object | None = None,
    on_fault: Callable[[InputError], None] | None = None,
) -> Task:
    """The task with the instances that a race can score; there may be none left.

    The others' prompts do not fit the context, or they lack a gold output which is asked for. A
    race may come to any instance and any perturbation, so all of them are looked at.

    Args:
        source: Where the task comes from, for messages.
        on_fault: Called with what is wrong with each of the others; none: the first one is raised.

    Raises:
        InputError: If an instance cannot be scored and `on_fault` is none.
    """
    fault = _fault(task, config, builder, max_perturbations, source)
    if fault is None:
        return task
    if on_fault is None:
        raise fault
    kept = []
    for instance in task.instances:
        alone = task.with_instances([instance])
        if fault := _fault(alone, config, builder, max_perturbations, source):
            on_fault(fault)
        else:
            kept.append(instance)
    return task.with_instances(kept)


def _fault(
    task: Task,
    config: ScoreConfig,
    builder: PromptBuilder,
    max_perturbations: int,
    source: object | None,
) -> InputError | None:
    """What is wrong with the first instance that cannot be scored; none if all can."""
    try:
        plan_task(task, config.with_design(len(task.instances), max_perturbations), builder)
    except InputError as fault:
        return fault.within(source)
    return None


def run_race(
    race: Race, tables: LiveTables, on_batch: Callable[[Race], None] | None = None
) -> RaceResult:
    """Races until the budget is spent or nothing is open.

    Args:
        tables: The pairs, of the same tasks.
        on_batch: Called after each batch.

    Raises:
        InputError: If the engine finds fault with a task, unless `tables` skips such.
        EngineError: If the engine fails, or its weights change on the way.
    """
    while batch := race.next_batch():
        measured = tables.extend(batch)
        for task_id, table in measured.items():
            race.tell(task_id, table)
        if failed := [step.task_id for step in batch if step.task_id not in measured]:
            race.withdraw(failed)
        if on_batch is not None:
            on_batch(race)
    return RaceResult(
        config=race.config,
        tokens=race.tokens,
        usage=tables.usage,
        standings=race.standings(),
        unmeasurable=race.unmeasurable,
        skipped=tables.skipped,
    )
