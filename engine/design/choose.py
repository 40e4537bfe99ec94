"""`--design auto`: the number of instances and perturbations that a token budget buys best."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from engine.design.costs import TaskCost
from engine.errors import InputError
from engine.prompts import PromptBuilder
from engine.protocol.score_config import ScoreConfig
from engine.questions.pair_plan import is_measurable, plan_task
from engine.tasks import Record, Task
from engine.variance.components import TYPICAL, Components

_COUNTED = 4  # instances per task whose tokens are counted
_MOST = 50  # instances and perturbations at most


class Design(Record):
    """A design and what is expected of it.

    Attributes:
        n_instances: n.
        n_perturbations: k.
        instances_per_perturbation: r; n in a crossed design.
        tokens: Computed tokens it costs over all tasks.
        relative_error: Expected standard error of prompt uncertainty relative to its size.
    """

    n_instances: int
    n_perturbations: int
    instances_per_perturbation: int
    tokens: float
    relative_error: float

    def in_words(self) -> str:
        """The design, for a person."""
        n, r = self.n_instances, self.instances_per_perturbation
        each = "" if r == n else f" that {r} of the instances meet each"
        return f"{n} instances and {self.n_perturbations} perturbations{each}"

    def applied(self, config: ScoreConfig) -> ScoreConfig:
        """A config with this design."""
        r = self.instances_per_perturbation
        return config.model_copy(
            update={
                "n_instances": self.n_instances,
                "n_perturbations": self.n_perturbations,
                "instances_per_perturbation": None if r == self.n_instances else r,
            }
        )


def choose_design(
    costs: Sequence[TaskCost],
    relative: Components,
    budget: float,
    *,
    max_instances: int,
    max_perturbations: int,
) -> Design:
    """The uniform design with the smallest standard error that costs no more than the budget.

    All designs are tried, incomplete ones too: for each n and r the largest k that the budget pays
    for. (Brennan, 2001, gives the continuous optimum for a price per pair; here a column of the
    table has a price too, and is worth its price without being full.)

    Args:
        costs: Of every task.
        relative: Pooled components, see `engine.variance.pooling.Pooled`.
        budget: Computed tokens for all tasks together.
        max_instances: Instances that every task has.
        max_perturbations: Perturbations at most.

    Raises:
        InputError: If one instance and one perturbation per task cost more than the budget.
    """
    prefix, tail = sum(cost.prefix for cost in costs), sum(cost.tail for cost in costs)
    whole = TaskCost(prefix, tail, max(cost.again for cost in costs))
    best: Design | None = None
    for n in range(1, max_instances + 1):
        left = budget - whole.tokens(n, 0)
        for r in range(n, 0, -1):
            k = min(int(left // (prefix + r * tail)), max_perturbations)
            if k < 1 or k * r < n:
                continue
            error = relative.standard_error(_effective(n, k * r), k, k * r)
            if best is None or error < best.relative_error:
                best = Design(
                    n_instances=n,
                    n_perturbations=k,
                    instances_per_perturbation=r,
                    tokens=whole.tokens(n, k, k * r),
                    relative_error=error,
                )
    if best is None:
        raise InputError(
            f"one instance and one perturbation per task cost {whole.tokens(1, 1):.0f} tokens, "
            f"more than the budget of {budget:.0f}",
            field="budget",
        )
    return best


def _effective(n: int, cells: int) -> float:
    """Effective number of n instances that share so many cells as evenly as they can."""
    often, more = divmod(cells, n)
    return cells**2 / (more * (often + 1) ** 2 + (n - more) * often**2)


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
            instances limits n. Tasks that no perturbation changes cost next to nothing.
        config: Prompts and perturbations; its design is not used.
        budget: Computed tokens for all tasks together.
        relative: Pooled components of an earlier scoring, if there is one.

    Raises:
        InputError: If there is no task, a prompt does not fit, or the budget is too small.
    """
    few = config.with_design(_COUNTED, config.n_perturbations)
    costs, sizes = [], []
    for task in tasks:
        plan = plan_task(task, few, builder)
        if is_measurable(plan, few, builder):
            costs.append(TaskCost.of(plan, few, builder))
            sizes.append(len(task.instances))
    if not costs:
        raise InputError("there is no task that a perturbation changes", field="tasks")
    return choose_design(
        costs,
        relative,
        budget,
        max_instances=min(_MOST, int(median(sizes))),
        max_perturbations=_MOST,
    )
