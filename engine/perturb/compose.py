"""Several perturbations, one after the other, and the list of all there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SerializeAsAny,
    model_validator,
)
from pydantic_core import PydanticCustomError, core_schema

from engine.perturb.base import Change, Shown, Step, Streams
from engine.perturb.examples import DropExampleInputs, OrderExamples, ResampleExamples
from engine.perturb.form import Formatting, LetterCase
from engine.perturb.paraphrase import Paraphrase
from engine.perturb.words import DropWords, MaskWords, ShuffleWords, Typos
from engine.registry import Registry
from engine.tasks import Task

DEFAULT = "drop_words"
"""The perturbation that is meant where a configuration names none."""


class _ByName:
    """Annotates a field that holds any perturbation: its class is the one its `name` says."""

    def __init__(self, *, composed: bool) -> None:
        self._composed = composed

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(self._read, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        kinds = [PERTURBATIONS[name] for name in self._names()]
        return {"oneOf": [handler(kind.__pydantic_core_schema__) for kind in kinds]}

    def _names(self) -> list[str]:
        return [name for name in PERTURBATIONS if self._composed or name != "compose"]

    def _read(self, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        name = values.get("name", DEFAULT)
        if not isinstance(name, str) or name not in self._names():
            complaint = PERTURBATIONS.complaint(name, self._names())
            raise PydanticCustomError("unknown_perturbation", "{text}", {"text": complaint})
        return PERTURBATIONS[name].model_validate({**values, "name": name})


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
        tuple[Annotated[SerializeAsAny[Step], _ByName(composed=False)], ...],
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
        changes: list[Change] = []
        for index, step in enumerate(self.steps):
            task, done = step.perturb(task, replace(streams, step=index), shown)
            changes += done
        return task, tuple(changes)

    def may_lengthen(self) -> bool:
        return any(step.may_lengthen() for step in self.steps)

    def only_for(self, tasks: Sequence[Task]) -> Self:
        return self.model_copy(update={"steps": tuple(one.only_for(tasks) for one in self.steps)})


def _place(step: Step) -> int:
    return 0 if isinstance(step, ResampleExamples) else 1 if isinstance(step, Paraphrase) else 2


PERTURBATIONS: Registry[type[Step]] = Registry(
    "perturbation",
    "jostle.perturbations",
    Step,
    lambda: (
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
    ),
    classes=True,
)
"""The class of every perturbation by its name."""

PerturbationConfig = Annotated[SerializeAsAny[Step], _ByName(composed=True)]
"""The configuration of any perturbation, told apart by its `name`; `drop_words` without one."""
