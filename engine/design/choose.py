"""`--design auto`: the number of instances and perturbations that a token budget buys best."""

from __future__ import annotations

from collections.abc import Sequence

from engine.design.components import Components
from engine.design.costs import TaskCost
from engine.errors import InputError
from engine.tasks import Record


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
