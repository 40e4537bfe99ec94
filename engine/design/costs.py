"""What a design costs: tokens the model computes when equal prefixes are computed once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from engine.prompts import PromptBuilder
from engine.prompts.seams import shared_prefix
from engine.protocol.score_config import ScoreConfig
from engine.questions.pair_plan import TaskPlan, plan_pairs, reusable_tokens


@dataclass(frozen=True, slots=True)
class TaskCost:
    """Token counts of one task, means over instances and perturbations.

    Attributes:
        prefix: Tokens that the prompts of all instances share under one perturbation.
        tail: Tokens that a pair adds to the prefix: the rest of its prompt and its output.
        again: Original pairs that are read a second time, with nothing reused of the first.
    """

    prefix: float
    tail: float
    again: int = 0

    def tokens(self, n: int, k: int, cells: int | None = None) -> float:
        """Computed tokens of n instances under the original and k perturbed prompts.

        The reference output is generated under the original one, so it costs what a pair costs.

        Args:
            n: Instances.
            k: Perturbations.
            cells: Perturbed pairs; n k where none are left out.
        """
        pairs = n + (n * k if cells is None else cells) + min(self.again, n)
        return (k + 1 + (self.again > 0)) * self.prefix + pairs * self.tail

    @classmethod
    def of(cls, plan: TaskPlan, config: ScoreConfig, builder: PromptBuilder) -> Self:
        """Counts the original and the first perturbed prompt, outputs taken at their longest.

        Args:
            config: Prompts, perturbations and second readings, none where it leaves them open (see
                `ScoreConfig.with_second_readings`); its design is not used.
        """
        few = config.with_design(len(plan.instances), 1)
        output = (0,) * config.max_output_tokens
        pairs = plan_pairs(plan, [output] * len(plan.instances), few, builder)
        n = len(plan.instances)
        originals, perturbed = (
            [pair.prompt for pair in pairs if pair.perturbation == j] for j in (0, 1)
        )
        prompts = (originals, perturbed or originals)  # a first draw may change nothing
        prefixes = [shared_prefix(min(of_j), max(of_j)) for of_j in prompts]
        computed = [sum(map(len, of_j)) - reusable_tokens(of_j) for of_j in prompts]
        prefix, total = sum(prefixes) / 2, sum(computed) / 2
        tail = (total - prefix) / n + config.max_output_tokens - 1
        return cls(prefix, tail, config.second_readings or 0)
