"""What all perturbations share: their random streams, the parts they change, and their report."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from engine.perturb.boundaries import Span, find_word
from engine.tasks import Example, Record, Task

Target = Literal["definition", "example_inputs", "example_outputs"]
"""A part of the prompt that can be changed. The instance's own input never is."""

Rate = Annotated[float, Field(ge=0, le=1)]
PartialRate = Annotated[float, Field(ge=0, lt=1)]

Kind = Literal["positive_examples", "negative_examples"]

KINDS: tuple[Kind, ...] = ("positive_examples", "negative_examples")
"""The two kinds of examples, as fields of a task."""

_FIELDS: dict[str, Literal["input", "output"]] = {
    "example_inputs": "input",
    "example_outputs": "output",
}


class Shown(NamedTuple):
    """How many examples of either kind the prompt shows: the first ones of the task."""

    n_positive: int
    n_negative: int

    def of(self, task: Task) -> Shown:
        """Those that a task has of them."""
        return Shown(
            min(self.n_positive, len(task.positive_examples)),
            min(self.n_negative, len(task.negative_examples)),
        )


class Change(Record):
    """What a perturbation did to one part of the prompt.

    Attributes:
        perturbation: Name of the perturbation.
        part: `definition`, `positive_examples`, or `positive_examples/0` and so on.
        changed: Units that were changed.
        total: Units that could have been changed; protected ones are not counted.
        unit: What is counted, in the plural.
    """

    perturbation: str
    part: str
    changed: int
    total: int
    unit: str


class Changed(NamedTuple):
    """A changed text, with the units that were changed and those that could have been."""

    text: str
    changed: int
    total: int


@dataclass(frozen=True)
class Streams:
    """The random streams of one perturbed prompt.

    Attributes:
        seed: Of the scoring.
        task_id: The task.
        j: Number of the perturbation, at least 1.
        step: Place in a composition; the first step draws as it would alone.
    """

    seed: int
    task_id: str
    j: int
    step: int = 0

    def of(self, part: str) -> random.Random:
        """The stream of a part."""
        step = f"/step {self.step}" if self.step else ""
        return random.Random(f"perturb/{self.seed}/{self.task_id}/{self.j}/{part}{step}")


class Options(Record):
    """Base of what a person configures: the error about an unknown key lists the valid ones."""

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, values: Any) -> Any:
        keys = map(str, values) if isinstance(values, dict) else ()
        unknown = sorted(set(keys) - set(cls.model_fields))
        if unknown:
            raise PydanticCustomError(
                "unknown_key",
                "unknown key {keys}; valid here: {valid}",
                {"keys": ", ".join(unknown), "valid": ", ".join(sorted(cls.model_fields))},
            )
        return values


class Step(Options):
    """Base of all perturbations: configuration and what it does in one.

    Attributes:
        lengthens: Whether a prompt can get more tokens than the original has.
    """

    lengthens: ClassVar[bool] = True

    # Overridden in each class by a literal, by which the configuration is told apart.
    name: str

    @abstractmethod
    def perturb(
        self, task: Task, streams: Streams, shown: Shown
    ) -> tuple[Task, tuple[Change, ...]]:
        """The perturbed task, showing as many examples as `shown` says, and what was done to it.

        Args:
            task: With all its examples, also those that are not shown.
            shown: How many examples of either kind the prompt shows.
        """

    def may_lengthen(self) -> bool:
        """Whether a prompt can become longer than the original."""
        return self.lengthens

    def only_for(self, tasks: Sequence[Task]) -> Self:
        """The same for these tasks, without what only others need."""
        return self


class TextStep(Step):
    """Base of the perturbations that change one text after the other.

    Attributes:
        targets: The parts that are changed.
        protect_labels: Leave the task's labels alone where its definition mentions them, in
            whatever case. A task that lists no labels has none to protect.
    """

    unit: ClassVar[str] = "words"

    targets: tuple[Target, ...] = ("definition", "example_inputs")
    protect_labels: bool = False

    def perturb(
        self, task: Task, streams: Streams, shown: Shown
    ) -> tuple[Task, tuple[Change, ...]]:
        """Each targeted text is changed with a stream of its own."""
        task = show(task, shown)
        update: dict[str, object] = {}
        changes: list[Change] = []

        def change(text: str, part: str, spans: tuple[Span, ...] = ()) -> str:
            done = self.change(text, streams.of(part), spans)
            changes.append(self._report(part, done))
            return _with_ends_of(text, done.text)

        if "definition" in self.targets:
            spans = label_spans(task) if self.protect_labels else ()
            update["definition"] = change(task.definition, "definition", spans)
        for kind in KINDS:
            examples: tuple[Example, ...] = getattr(task, kind)
            for target, field in _FIELDS.items():
                if target in self.targets:
                    # The names of the inputs' streams are those of the first release.
                    suffix = "" if field == "input" else "/output"
                    examples = tuple(
                        one.model_copy(
                            update={field: change(getattr(one, field), f"{kind}/{n}{suffix}")}
                        )
                        for n, one in enumerate(examples)
                    )
            update[kind] = examples
        return task.model_copy(update=update), tuple(changes)

    def _report(self, part: str, done: Changed) -> Change:
        return Change(
            perturbation=self.name,
            part=part,
            changed=done.changed,
            total=done.total,
            unit=self.unit,
        )

    @abstractmethod
    def change(self, text: str, rng: random.Random, protected: tuple[Span, ...]) -> Changed:
        """The perturbed text; a non-empty text never becomes empty.

        Blanks at its ends do not count: the perturbed prompt has those of the original.

        Args:
            protected: Ranges of the text that must stay as they are.
        """


def _with_ends_of(text: str, changed: str) -> str:
    """The changed text with the blanks at the ends of the original, which are no wording."""
    bare = text.strip()
    if not bare:
        return text
    before, _, behind = text.partition(bare)
    return f"{before}{changed.strip()}{behind}"


def label_spans(task: Task) -> tuple[Span, ...]:
    """Where the definition mentions a label of the task as a word of its own, in whatever case."""
    spans: set[Span] = set()
    for label in task.labels:
        if label.strip():
            spans.update(find_word(label.strip(), task.definition))
    return tuple(sorted(spans))


def show(task: Task, shown: Shown) -> Task:
    """The task with only its first examples of either kind."""
    return task.model_copy(
        update={kind: getattr(task, kind)[:count] for kind, count in zip(KINDS, shown, strict=True)}
    )
