"""What a scoring request may choose: prompts, perturbations and the design."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from engine.perturb import DropWords, PerturbationConfig
from engine.prompts.prompt_config import PromptConfig
from engine.tasks import Record

BASE_MEASURE = "prompt_uncertainty"
"""The measure that asks no question on top."""

SECOND_READINGS = 2
"""Original pairs of a task that are scored a second time where rounding tells."""


class SamplingConfig(Record):
    """How outputs are sampled, where what is measured needs samples.

    They are at most `max_output_tokens` long. Each is drawn with a seed of its own, made of the
    design's seed, the task, the instance, the perturbation and the number of the sample.

    Attributes:
        n_samples: Samples m under every prompt, the original one included. At temperature 0 all
            of them would be equal, so there is one.
        temperature: What logits are divided by: 0 takes the likeliest token, values between 0 and
            0.01 are refused.
        top_p: Tokens are drawn from the likeliest ones that have this share of the probability.
    """

    n_samples: Annotated[int, Field(ge=1, le=64)] = 5
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _temperature_is_taken_as_given(self) -> SamplingConfig:
        if 0 < self.temperature < 0.01:  # vLLM would raise it to 0.01
            raise PydanticCustomError("temperature", "temperature must be 0 or at least 0.01")
        return self


# Left out where it says nothing: configs of runs that began without it stay what they were.
_Fitted = Annotated[
    Annotated[int, Field(ge=1, le=1_000)] | None, Field(exclude_if=lambda value: value is None)
]


class ScoreConfig(Record):
    """Everything a score depends on beside the task and the weights.

    Attributes:
        n_instances: Instances measured per task, n.
        n_perturbations: Perturbed prompts per task, k; the original prompt comes on top.
        instances_per_perturbation: Instances r that each perturbed prompt is scored with; none: all
            of them. Fewer make an incomplete design (`engine.questions.incidence`): at the same
            cost n and k can be larger. r k must be at least n, so that every instance is perturbed;
            with a `first_perturbation` beyond 1 some may not be.
        first_perturbation: Number j of the first perturbed prompt. Prompts depend on seed and j
            alone, so a later scoring with k + 1 goes on where one with k perturbations ended.
        fit_perturbations: Number of the last perturbed prompt that must fit the context, scored or
            not; null: of the last scored one. Where prompts can get longer, that decides how many
            examples a task shows, so parts of one table are asked for with the same number.
        max_output_tokens: Longest reference output, and longest sample, in tokens.
        reference: `generated` scores the model's own greedy output, `gold` the first gold output.
        second_readings: Original pairs per task that are scored a second time, of which the noise
            floor of prompt uncertainty is made (`engine.variance.rounding_noise`). Null: 2 where
            rounding tells, none in float32.
        seed: Seed of the instance sample and of the perturbations.
        prompt: How prompts are laid out.
        perturbation: How prompts are perturbed; told apart by its `name`, see `engine.perturb`.
        measure: `prompt_uncertainty` measures how far the likelihood of the reference outputs
            moves. Any other name asks a question on top, see `engine.questions.question_registry`.
        sampling: How outputs are sampled, where the question samples some.
    """

    n_instances: Annotated[int, Field(ge=1, le=10_000)] = 10
    n_perturbations: Annotated[int, Field(ge=1, le=1_000)] = 10
    instances_per_perturbation: Annotated[int, Field(ge=1, le=10_000)] | None = None
    first_perturbation: Annotated[int, Field(ge=1, le=1_000)] = 1
    fit_perturbations: _Fitted = None
    max_output_tokens: Annotated[int, Field(ge=1, le=4_096)] = 32
    reference: Literal["generated", "gold"] = "generated"
    second_readings: Annotated[int, Field(ge=0, le=10_000)] | None = None
    seed: int = 0
    prompt: PromptConfig = PromptConfig()
    perturbation: PerturbationConfig = DropWords()
    measure: str = BASE_MEASURE
    sampling: SamplingConfig = SamplingConfig()

    @model_validator(mode="after")
    def _design_is_whole(self) -> ScoreConfig:
        r = self.instances_per_perturbation
        if r is not None and r * self.n_perturbations < self.n_instances:
            raise PydanticCustomError(
                "design",
                "{pairs} perturbed pairs leave some of {n} instances without any: "
                "instances_per_perturbation times n_perturbations must be at least n_instances",
                {"pairs": r * self.n_perturbations, "n": self.n_instances},
            )
        return self

    @property
    def perturbations(self) -> range:
        """The numbers j of the perturbed prompts."""
        return range(self.first_perturbation, self.first_perturbation + self.n_perturbations)

    def with_second_readings(self, dtype: str) -> ScoreConfig:
        """The same, where null stands for what an engine makes of it.

        Args:
            dtype: The engine's, as `engine.protocol.served_model.ServedModel` tells it.
        """
        if self.second_readings is not None:
            return self
        readings = 0 if dtype.partition(",")[0] == "float32" else SECOND_READINGS
        return self.model_copy(update={"second_readings": readings})

    @property
    def fitted(self) -> range:
        """The numbers j of the perturbed prompts that must fit the context."""
        if self.fit_perturbations is None:
            return self.perturbations
        return range(1, max(self.fit_perturbations, self.perturbations[-1]) + 1)

    def with_design(self, n: int, k: int, first: int = 1) -> ScoreConfig:
        """The same of n instances that k perturbed prompts all meet, from number `first` on."""
        return self.model_copy(
            update={
                "n_instances": n,
                "n_perturbations": k,
                "instances_per_perturbation": None,
                "first_perturbation": first,
            }
        )

    def n_prompts(self, n_instances: int) -> int:
        """Prompts of a task that has so many instances, original ones included.

        Args:
            n_instances: Those of the task, of which `self.n_instances` are measured at most.
        """
        n = min(n_instances, self.n_instances)
        r = self.instances_per_perturbation or n
        return n + min(n, r) * self.n_perturbations

    @property
    def is_crossed(self) -> bool:
        """Whether every perturbed prompt meets every instance."""
        r = self.instances_per_perturbation
        return r is None or r >= self.n_instances
