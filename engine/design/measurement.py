"""What has been measured of a task, and what first-order theory expects of its moves.

Say a perturbation shifts the log-odds of each output token by an independent draw of deviation s.
Then p(i, 0), a geometric mean over T tokens, moves to first order by p (1 - p) s / sqrt(T) (the
delta method, each token as likely as their mean); and if every token of the prompt that changes
shifts it independently, s grows with the square root of the share of tokens that change. Both are
known for nothing: the first when the reference outputs are, the second before any pair is scored.
Only proportions count, between tasks and between the perturbations of one task.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from engine.errors import InputError
from engine.perturb import Perturbation, Shown
from engine.prompts import PromptBuilder
from engine.protocol.score_config import ScoreConfig
from engine.questions.pair_plan import plan_pairs, plan_task
from engine.tasks import Task
from engine.variance.analysis import Moves
from engine.variance.pair_grid import PairGrid, sensitivity

_LEAST_CHANGE = 0.5  # units; a text of equal length can be another one

WHOLE = 20
"""Perturbations of a whole design, as far as their shifts are looked at."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """A table of moves and what its original prompts tell beside.

    Attributes:
        moves: Shape (instances, perturbations), nan where a pair is not scored.
        sensitivity: The expected move for a shift of 1, up to a common factor, > 0; 1 where a
            measure has none.
    """

    moves: Moves
    sensitivity: float = 1.0

    @classmethod
    def of_grid(cls, grid: PairGrid) -> Self:
        """That of one task's pairs."""
        return cls.of_likelihoods(grid.moves, grid.originals, grid.n_tokens[:, 0])

    @classmethod
    def of_likelihoods(
        cls,
        moves: Moves,
        originals: NDArray[np.float64],
        n_tokens: Sequence[int] | NDArray[np.float64],
    ) -> Self:
        """A measurement by likelihoods: the mean over instances of p (1 - p) / sqrt(T).

        Args:
            moves: Shape (instances, perturbations).
            originals: p(i, 0), shape (instances,).
            n_tokens: Length T of each instance's reference output, >= 1.
        """
        return cls(moves, float(sensitivity(originals, n_tokens).mean()))


def shift(length: float, original: float) -> float:
    """How far a perturbed prompt shifts the model, up to a common factor.

    The square root of the share of tokens by which it is shorter or longer: the same rate of
    dropped words is a larger change where the instruction is a larger part of the prompt.

    Args:
        length: Tokens of the perturbed prompt.
        original: Of the original one.
    """
    return math.sqrt(max(abs(length - original), _LEAST_CHANGE) / original)


def prompt_shifts(
    task: Task, config: ScoreConfig, builder: PromptBuilder, n_perturbations: int
) -> tuple[float, ...]:
    """The shift of each of a task's perturbations, of one instance.

    Raises:
        InputError: If the prompt does not fit the context.
    """
    one = config.with_design(1, n_perturbations)
    plan = plan_task(task, one, builder)
    original, *perturbed = [len(pair.prompt) for pair in plan_pairs(plan, [(0,)], one, builder)]
    return tuple(shift(length, original) for length in perturbed)


def perturbation_strength(task: Task, config: ScoreConfig) -> float | None:
    """How far a design's perturbations are expected to shift a model, beside those of a whole one.

    By the square root of the units (words, letters, ...) that they change, and the mean over the
    first `WHOLE` perturbations; known without a tokenizer. 1 where it is the whole design; none
    where further perturbations are not known (paraphrases).
    """
    last = config.perturbations[-1]
    if config.first_perturbation == 1 and last >= WHOLE:
        return 1.0
    perturbation = Perturbation(config.perturbation, config.seed)
    prompt = config.prompt
    shown = Shown(prompt.n_positive_examples, prompt.n_negative_examples).of(task)
    shifts = []
    try:
        for j in range(1, max(WHOLE, last) + 1):
            _, changes = perturbation.trace(task, j, shown)
            shifts.append(math.sqrt(max(sum(each.changed for each in changes), _LEAST_CHANGE)))
    except InputError:
        return None
    scored = [shifts[j - 1] for j in config.perturbations]
    return (sum(scored) / len(scored)) / (sum(shifts) / len(shifts))


@dataclass(frozen=True, slots=True)
class Expectation:
    """What theory expects of a task's moves; logarithms, up to a factor common to all tasks.

    Attributes:
        whole: The mean over all its perturbations.
        exposure: The mean over the pairs that are scored, beside that.
    """

    whole: float
    exposure: float

    @classmethod
    def of(
        cls, measured: Measurement, shifts: Sequence[float], strength: float | None = None
    ) -> Self:
        """That of a measurement.

        Args:
            measured: Its table may have more perturbations than have a shift: those count as the
                mean.
            shifts: Of the perturbations of the whole design, in order, or of the first ones; none:
                all are alike.
            strength: Mean of these shifts beside that of the whole design; taken to be 1 where it
                is not known.
        """
        mean = sum(shifts) / len(shifts) if shifts else 1.0
        cells = np.isfinite(measured.moves).sum(axis=0)
        of_columns = np.full(len(cells), mean)
        known = min(len(cells), len(shifts))
        of_columns[:known] = shifts[:known]
        scored = float(cells @ of_columns) / float(cells.sum())
        whole = mean if strength is None else mean / strength
        return cls(math.log(measured.sensitivity * whole), math.log(scored / whole))
