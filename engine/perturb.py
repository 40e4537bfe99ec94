"""Perturbations: seeded changes of a task's prompt.

A perturbation maps a task to a task. Every part of the prompt (the definition, each example) draws
from a random stream of its own, keyed by seed, task, perturbation number and part. So the perturbed
prefix is the same for all instances of a task, and stays the same for an instance whose prompt has
room for fewer examples.
"""

from __future__ import annotations

import random
import re
from abc import ABC, abstractmethod

from engine.config import PerturbationConfig
from engine.tasks import Example, Task

_WORD = re.compile(r"\S+\s*")


class Perturbation(ABC):
    """Base of all perturbations: changes the targeted parts one text at a time."""

    def __init__(self, config: PerturbationConfig, seed: int) -> None:
        self.config = config
        self.seed = seed

    def apply(self, task: Task, j: int) -> Task:
        """The task under perturbation `j`; `j == 0` is the task itself.

        The instances are left alone: the question put to the model must stay the same question.
        """
        if j == 0:
            return task
        changes: dict[str, object] = {}
        if "definition" in self.config.targets:
            changes["definition"] = self._change(task, j, "definition", task.definition)
        if "example_inputs" in self.config.targets:
            for kind in ("positive_examples", "negative_examples"):
                examples: tuple[Example, ...] = getattr(task, kind)
                changes[kind] = tuple(
                    example.model_copy(
                        update={"input": self._change(task, j, f"{kind}/{index}", example.input)}
                    )
                    for index, example in enumerate(examples)
                )
        return task.model_copy(update=changes)

    def _change(self, task: Task, j: int, part: str, text: str) -> str:
        return self.change(text, random.Random(f"perturb/{self.seed}/{task.id}/{j}/{part}"))

    @abstractmethod
    def change(self, text: str, rng: random.Random) -> str:
        """The perturbed text; a non-empty text never becomes empty."""


class DropWords(Perturbation):
    """Drops each word with probability `rate` (Kung et al., 2023, section 3.1).

    A word is a run of non-blank characters with the blanks behind it. One word always stays: a
    prompt without any instruction would measure something else.
    """

    def change(self, text: str, rng: random.Random) -> str:
        """The text without the words that the draw drops."""
        words = _WORD.findall(text)
        kept = [word for word in words if rng.random() >= self.config.rate]
        if not kept and words:
            kept = [rng.choice(words)]
        return "".join(kept).strip()


_PERTURBATIONS = {"drop_words": DropWords}


def make_perturbation(config: PerturbationConfig, seed: int) -> Perturbation:
    """The perturbation that the config names."""
    return _PERTURBATIONS[config.name](config, seed)
