"""What has been measured of a task: its table of moves, and covariates that came for nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from engine.config import ScoreConfig
from engine.design.analysis import Moves
from engine.plan import plan_pairs, plan_task
from engine.prompts import PromptBuilder
from engine.tasks import Task

_SMALLEST = 1e-6  # probabilities below it count as it, where a logarithm is taken


@dataclass(frozen=True, slots=True)
class Measurement:
    """A table of moves and what its original prompts tell beside.

    Attributes:
        moves: Shape (instances, perturbations), nan where a pair is not scored.
        covariates: What helps to guess the level of the moves; of the same length for all tasks of
            a pool, empty where a measure has none.
    """

    moves: Moves
    covariates: tuple[float, ...] = ()

    @classmethod
    def of_likelihoods(
        cls, moves: Moves, originals: NDArray[np.float64], n_tokens: Sequence[int]
    ) -> Self:
        """A measurement by likelihoods, with the covariates of its reference outputs.

        The mean log length of the outputs (p is a mean per token, so that of a short output moves
        more) and the mean log p(i, 0) (a probability near 0 cannot move far).

        Args:
            moves: Shape (instances, perturbations).
            originals: p(i, 0), shape (instances,).
            n_tokens: Length of each instance's reference output, >= 1.
        """
        length = sum(math.log(tokens) for tokens in n_tokens) / len(n_tokens)
        certainty = float(np.log(np.maximum(originals, _SMALLEST)).mean())
        return cls(moves, (length, certainty))


def prompt_change(
    task: Task, config: ScoreConfig, builder: PromptBuilder, n_perturbations: int
) -> float:
    """By what share of its tokens a task's prompt gets shorter or longer, known before any scoring.

    The mean over perturbations of |length(j) - length(0)| / length(0), of one instance. The same
    rate of dropped words is a larger change where the instruction is a larger part of the prompt.

    Raises:
        InputError: If the prompt does not fit the context.
    """
    one = config.model_copy(update={"n_instances": 1, "n_perturbations": n_perturbations})
    plan = plan_task(task, one, builder)
    original, *perturbed = [len(pair.prompt) for pair in plan_pairs(plan, [(0,)], one, builder)]
    return sum(abs(length - original) for length in perturbed) / (len(perturbed) * original)
