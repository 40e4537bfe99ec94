"""Several perturbations, one after the other, and the list of all there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from engine.perturb.base import Change, Shown, Step, Streams
from engine.perturb.examples import DropExampleInputs, OrderExamples, ResampleExamples
from engine.perturb.form import Formatting, LetterCase
from engine.perturb.paraphrase import Paraphrase
from engine.perturb.words import DropWords, MaskWords, ShuffleWords, Typos
from engine.tasks import Task

DEFAULT = "drop_words"
"""The perturbation that is meant where a configuration names none."""


def _checked_name(values: Any) -> Any:
    """The configuration with its name; an error that lists the names if there is no such one."""
    if not isinstance(values, dict):
        return values
    name = values.get("name", DEFAULT)
    if not isinstance(name, str) or name not in PERTURBATIONS:
        raise PydanticCustomError(
            "unknown_perturbation",
            "unknown perturbation {name}; valid here: {valid}",
            {"name": repr(name), "valid": ", ".join(PERTURBATIONS)},
        )
    return {**values, "name": name}


Single = Annotated[
    DropWords
    | MaskWords
    | ShuffleWords
    | Typos
    | LetterCase
    | Formatting
    | DropExampleInputs
    | ResampleExamples
    | OrderExamples
    | Paraphrase,
    Field(discriminator="name"),
]
"""Any perturbation but a composition."""


class Compose(Step):
    """Applies perturbations in order; the first draws as it would alone.

    Labels are protected where the text mentions them when a step's turn comes.

    Attributes:
        steps: The perturbations, first one first. `resample_examples` precedes all others, for it
            draws from examples that are not shown; `paraphrase` precedes those that change texts,
            for paraphrases are found by the original text.
    """

    name: Literal["compose"] = "compose"
    steps: Annotated[
        tuple[Annotated[Single, BeforeValidator(_checked_name)], ...],
        Field(min_length=1, max_length=16),
    ]

    @model_validator(mode="after")
    def _in_order(self) -> Compose:
        places = [_place(step) for step in self.steps]
        if places != sorted(places):
            raise PydanticCustomError(
                "order_of_steps",
                "resample_examples must precede all other steps, and paraphrase those that "
                "change texts",
            )
        return self

    def perturb(
        self, task: Task, streams: Streams, shown: Shown
    ) -> tuple[Task, tuple[Change, ...]]:
        """One step after the other."""
        changes: list[Change] = []
        for index, step in enumerate(self.steps):
            task, done = step.perturb(task, replace(streams, step=index), shown)
            changes += done
        return task, tuple(changes)

    def may_lengthen(self) -> bool:
        """Whether one of the steps does."""
        return any(step.may_lengthen() for step in self.steps)

    def only_for(self, tasks: Sequence[Task]) -> Self:
        """Each step without what only others need."""
        return self.model_copy(update={"steps": tuple(one.only_for(tasks) for one in self.steps)})


def _place(step: Step) -> int:
    return 0 if isinstance(step, ResampleExamples) else 1 if isinstance(step, Paraphrase) else 2


PERTURBATIONS: dict[str, type[Step]] = {
    kind.model_fields["name"].default: kind
    for kind in (
        DropWords,
        MaskWords,
        ShuffleWords,
        Typos,
        LetterCase,
        Formatting,
        DropExampleInputs,
        ResampleExamples,
        OrderExamples,
        Paraphrase,
        Compose,
    )
}
"""Every perturbation by its name."""

PerturbationConfig = Annotated[
    Single | Compose, Field(discriminator="name"), BeforeValidator(_checked_name)
]
"""The configuration of any perturbation, told apart by its `name`; `drop_words` without one."""
