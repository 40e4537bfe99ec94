"""`--design auto`: the number of instances and perturbations that a token budget buys best."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from engine.config import ScoreConfig
from engine.design.components import TYPICAL, Components
from engine.design.costs import TaskCost
from engine.errors import InputError
from engine.plan import plan_task
from engine.prompts import PromptBuilder
from engine.tasks import Record, Task

_COUNTED = 4  # instances per task whose tokens are counted
_MOST = 50  # instances and perturbations at most


class Design(Record):
    """A design and what is expected of it.

    Attributes:
        n_instances: n.
        n_perturbations: k.
        tokens: Computed tokens it costs over all tasks.
        relative_error: Expected standard error of prompt uncertainty relative to its size.
    """

    n_instances: int
    n_perturbations: int
    tokens: float
    relative_error: float


def choose_design(
    costs: Sequence[TaskCost],
    relative: Components,
    budget: float,
    *,
    max_instances: int,
    max_perturbations: int,
) -> Design:
    """The uniform design with the smallest standard error that costs no more than the budget.

    All designs are tried: for each n the largest k that the budget pays for. (Brennan, 2001, gives
    the continuous optimum for a price per pair; here a column of the table has a price too.)

    Args:
        costs: Of every task.
        relative: Pooled components, see `engine.design.components.Pooled`.
        budget: Computed tokens for all tasks together.
        max_instances: Instances that every task has.
        max_perturbations: Perturbations at most.

    Raises:
        InputError: If one instance and one perturbation per task cost more than the budget.
    """
    prefix, tail = sum(cost.prefix for cost in costs), sum(cost.tail for cost in costs)
    best: Design | None = None
    for n in range(1, max_instances + 1):
        column = prefix + n * tail
        k = min(int(budget // column) - 1, max_perturbations)
        if k < 1:
            break
        error = relative.standard_error(n, k)
        if best is None or error < best.relative_error:
            best = Design(
                n_instances=n, n_perturbations=k, tokens=(k + 1) * column, relative_error=error
            )
    if best is None:
        raise InputError(
            f"one instance and one perturbation per task cost {2 * (prefix + tail):.0f} tokens, "
            f"more than the budget of {budget:.0f}",
            field="budget",
        )
    return best


def design_for_pool(
    tasks: Iterable[Task],
    config: ScoreConfig,
    builder: PromptBuilder,
    budget: float,
    relative: Components = TYPICAL,
) -> Design:
    """The best uniform design for a pool, from the token counts of its prompts.

    Args:
        tasks: The pool; a few instances of each task are encoded. The tasks' median number of
            instances limits n.
        config: Prompts and perturbations; its design is not used.
        builder: Prompts as the engine builds them.
        budget: Computed tokens for all tasks together.
        relative: Pooled components of an earlier scoring, if there is one.

    Raises:
        InputError: If there is no task, a prompt does not fit, or the budget is too small.
    """
    few = config.model_copy(update={"n_instances": _COUNTED})
    costs, sizes = [], []
    for task in tasks:
        costs.append(TaskCost.of(plan_task(task, few, builder), few, builder))
        sizes.append(len(task.instances))
    if not costs:
        raise InputError("there is no task to choose a design for", field="tasks")
    return choose_design(
        costs,
        relative,
        budget,
        max_instances=min(_MOST, int(median(sizes))),
        max_perturbations=_MOST,
    )
