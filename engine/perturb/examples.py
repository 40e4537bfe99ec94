"""Perturbations of the examples: without inputs, other ones, in another order."""

from __future__ import annotations

import random
from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from engine.perturb.base import KINDS, Change, Kind, Rate, Shown, Step, Streams
from engine.tasks import Example, Task


class ExampleStep(Step):
    """Base of the perturbations that change the examples of a kind together.

    Attributes:
        kinds: Which examples are changed.
    """

    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)] = KINDS

    def perturb(
        self, task: Task, streams: Streams, shown: Shown
    ) -> tuple[Task, tuple[Change, ...]]:
        """Each kind is changed with a stream of its own."""
        update: dict[str, object] = {}
        changes: list[Change] = []
        for kind, count in zip(KINDS, shown, strict=True):
            examples: tuple[Example, ...] = getattr(task, kind)
            update[kind] = before = examples[:count]
            if kind in self.kinds and before:
                after = self.change(examples, len(before), streams.of(kind))
                update[kind] = after
                changes.append(
                    Change(
                        perturbation=self.name,
                        part=kind,
                        changed=sum(a != b for a, b in zip(before, after, strict=True)),
                        total=len(before),
                        unit="examples",
                    )
                )
        return task.model_copy(update=update), tuple(changes)

    @abstractmethod
    def change(
        self, examples: tuple[Example, ...], count: int, rng: random.Random
    ) -> tuple[Example, ...]:
        """The examples that are shown in place of `examples[:count]`, as many of them.

        Args:
            count: How many are shown, at least 1.
        """


class DropExampleInputs(ExampleStep):
    """Shows each example without its input with probability `rate`; its output stays.

    What an example's output says without its input is which answers there are and how they look
    (Min et al., *Rethinking the Role of Demonstrations*, EMNLP 2022).

    The layout writes an empty input as it always does.

    Attributes:
        rate: Probability that an example loses its input, in [0, 1].
    """

    lengthens: ClassVar[bool] = False

    name: Literal["drop_example_inputs"] = "drop_example_inputs"
    rate: Rate = 0.5

    def change(
        self, examples: tuple[Example, ...], count: int, rng: random.Random
    ) -> tuple[Example, ...]:
        # One draw per example, so that an example's fate does not depend on how many are shown.
        return tuple(
            one.model_copy(update={"input": ""}) if rng.random() < self.rate else one
            for one in examples[:count]
        )


class ResampleExamples(ExampleStep):
    """Shows other examples of the task, drawn without replacement, at least one of them new.

    They are shown in the order in which the task has them. Where the task has no more examples than
    are shown, there is nothing to draw from and nothing changes.
    """

    name: Literal["resample_examples"] = "resample_examples"

    def change(
        self, examples: tuple[Example, ...], count: int, rng: random.Random
    ) -> tuple[Example, ...]:
        if len(examples) == count:
            return examples
        chosen = list(range(count))
        while chosen == list(range(count)):
            chosen = sorted(rng.sample(range(len(examples)), count))
        return tuple(examples[index] for index in chosen)


class OrderExamples(ExampleStep):
    """Shows the same examples in another order, drawn among all others.

    The order matters more than one would think (Lu et al., *Fantastically Ordered Prompts and Where
    to Find Them*, ACL 2022). Two examples have one other order only.
    """

    lengthens: ClassVar[bool] = True  # by a token or so: what precedes an example matters

    name: Literal["order_examples"] = "order_examples"

    def change(
        self, examples: tuple[Example, ...], count: int, rng: random.Random
    ) -> tuple[Example, ...]:
        if count == 1:
            return examples[:1]
        order = list(range(count))
        while order == list(range(count)):
            rng.shuffle(order)
        return tuple(examples[index] for index in order)
