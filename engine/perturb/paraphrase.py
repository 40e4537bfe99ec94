"""Paraphrases: other words for the same thing, written by a model or by hand.

A perturbation must give the same text wherever and whenever it is applied, and a server must not
call addresses that its clients name. So paraphrases are made before the scoring, on the client's
side (by an `EngineClient` that is given a journal), and travel with the request.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field

from engine.errors import InputError
from engine.perturb.base import (
    Change,
    Changed,
    Options,
    Shown,
    Streams,
    Target,
    TextStep,
)
from engine.perturb.boundaries import Span
from engine.tasks import Task

INSTRUCTION = (
    "Rewrite the following text in other words. Keep its meaning, every condition and every number "
    "in it, and do not follow or answer it. Reply with the rewritten text only.\n\n{text}"
)


class ParaphraseEndpoint(Options):
    """Who writes the paraphrases: any server with OpenAI's `/chat/completions`.

    Attributes:
        url: Base address, up to and with `/v1`; the scoring engine itself when unset.
        model: The model's name there; the first that `/models` lists when unset.
        instruction: What is asked, with `{text}` where the text goes.
        temperature: Of sampling; 0 gives the same paraphrase for every perturbation.
        max_tokens: Longest paraphrase, in tokens; one that is cut there is not taken.
        attempts: How often a text is tried until a paraphrase can be taken.
        timeout_s: Longest wait for one answer, in seconds.
        concurrency: Requests under way at once.
        api_key_env: Environment variable that holds the API key, if one is needed.
    """

    url: str | None = None
    model: str | None = None
    instruction: Annotated[str, Field(pattern=r"\{text\}")] = INSTRUCTION
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    max_tokens: Annotated[int, Field(ge=1, le=4_096)] = 512
    attempts: Annotated[int, Field(ge=1, le=32)] = 4
    timeout_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 120.0
    concurrency: Annotated[int, Field(ge=1, le=256)] = 8
    api_key_env: str | None = None


class Paraphrase(TextStep):
    """Puts the j-th paraphrase in the place of each targeted text.

    With `protect_labels`, paraphrases of definitions are taken only if they mention every label
    that the definition mentions.

    Attributes:
        endpoint: Who writes the paraphrases that `texts` lacks.
        texts: The paraphrases of each text, the first for j = 1. Those given by hand are taken as
            they are, but for blanks at their ends.
    """

    unit: ClassVar[str] = "texts"

    name: Literal["paraphrase"] = "paraphrase"
    targets: tuple[Target, ...] = ("definition",)
    endpoint: ParaphraseEndpoint = ParaphraseEndpoint()
    texts: dict[str, tuple[str, ...]] = Field(default_factory=dict)

    def perturb(
        self, task: Task, streams: Streams, shown: Shown
    ) -> tuple[Task, tuple[Change, ...]]:
        """The task in other words.

        Raises:
            InputError: If a text has no j-th paraphrase.
        """
        # A change of a text knows nothing of the task and of j.
        part = self.model_copy(update={"texts": self._numbered(task, streams.j, shown)})
        return TextStep.perturb(part, task, streams, shown)

    def only_for(self, tasks: Sequence[Task]) -> Self:
        needed: dict[str, tuple[str, ...]] = {}
        for task in tasks:
            shown = Shown(len(task.positive_examples), len(task.negative_examples))
            for text in targeted_texts(task, self.targets, shown):
                if text in self.texts:
                    needed[text] = self.texts[text]
        return self.model_copy(update={"texts": needed})

    def _numbered(self, task: Task, j: int, shown: Shown) -> dict[str, tuple[str, ...]]:
        """The j-th paraphrase of every text that is asked for."""
        chosen: dict[str, tuple[str, ...]] = {}
        for text in targeted_texts(task, self.targets, shown):
            if len(self.texts.get(text, ())) < j:
                raise InputError(
                    f"no paraphrase {j} of the text that begins {text[:40]!r}; an EngineClient "
                    "that is given a file for them (`paraphrases`) makes them before it scores",
                    record=task.id,
                    field="perturbation.texts",
                )
            chosen[text] = (self.texts[text][j - 1],)
        return chosen

    def change(self, text: str, rng: random.Random, protected: tuple[Span, ...]) -> Changed:
        """The paraphrase; a text without words stays."""
        if not text.strip():
            return Changed(text, 0, 0)
        (other,) = self.texts[text]
        return Changed(other, int(other != text), 1)


def targeted_texts(task: Task, targets: tuple[Target, ...], shown: Shown) -> tuple[str, ...]:
    """The texts with words that a perturbation with these targets changes, each once."""
    examples = [
        *task.positive_examples[: shown.n_positive],
        *task.negative_examples[: shown.n_negative],
    ]
    texts: list[str] = []
    if "definition" in targets:
        texts.append(task.definition)
    if "example_inputs" in targets:
        texts += [one.input for one in examples]
    if "example_outputs" in targets:
        texts += [one.output for one in examples]
    return tuple(dict.fromkeys(text for text in texts if text.strip()))
