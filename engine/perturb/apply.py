"""From the configuration of a perturbation to perturbed tasks."""

from __future__ import annotations

from engine.perturb.base import Change, Shown, Step, Streams, show
from engine.tasks import Task


class Perturbation:
    """A perturbation under a seed.

    Args:
        config: Which one, and how much of it.
        seed: Every draw follows from it.
    """

    def __init__(self, config: Step, seed: int) -> None:
        self.config = config
        self.seed = seed

    @property
    def lengthens(self) -> bool:
        """Whether a perturbed prompt can have more tokens than the original."""
        return self.config.may_lengthen()

    def apply(self, task: Task, j: int, shown: Shown | None = None) -> Task:
        """The task under perturbation `j`; `j == 0` is the task itself.

        The instances are left alone: the question put to the model must stay the same question.

        Args:
            shown: How many examples of either kind the prompt shows, and the perturbed task has;
                all when not given.
        """
        return self.trace(task, j, shown)[0]

    def trace(
        self, task: Task, j: int, shown: Shown | None = None
    ) -> tuple[Task, tuple[Change, ...]]:
        """As `apply`, and what was done to each part of the prompt."""
        if j == 0:
            return (task if shown is None else show(task, shown)), ()
        if shown is None:
            shown = Shown(len(task.positive_examples), len(task.negative_examples))
        return self.config.perturb(task, Streams(self.seed, task.id, j), shown)
