"""What is no fault of a pool and yet worth knowing before it is scored or trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from engine.prompts.special import END_TEXTS, WELL_KNOWN
from engine.tasks import Task


class OutputNotes:
    """Looks at the texts of tasks, one task after the other."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def look(self, task: Task) -> None:
        for instance in task.instances:
            record = f"{task.id}/{instance.id}"
            self._count("no gold", not instance.golds, record)
            self._count("blank", len(instance.outputs) - len(instance.golds), record)
            ended = sum(output.rstrip().endswith(END_TEXTS) for output in instance.outputs)
            self._count("ended", ended, record)
            inner = (output.rstrip().removesuffix(_end(output)) for output in instance.outputs)
            self._count("special", sum(map(_is_special, (instance.input, *inner))), record)
        examples = (*task.positive_examples, *task.negative_examples)
        texts = [task.definition, *task.labels]
        texts += [text for one in examples for text in (one.input, one.output, one.explanation)]
        self._count("special", sum(map(_is_special, texts)), task.id)

    def _count(self, kind: str, n: int, record: str) -> None:
        if n:
            self._counts[kind] += n
            self._first.setdefault(kind, record)

    def notes(self) -> Iterator[str]:
        for kind, text in (
            ("no gold", "instances without a gold output: {n} (first: {first})"),
            ("blank", "blank gold outputs, which count as none: {n} (first: {first})"),
            (
                "ended",
                "gold outputs that end in the text of an end token: {n} (first: {first}); it is "
                "text like any other, and prompt.strip_end_tokens = true takes it off",
            ),
            (
                "special",
                "other texts with the text of a special token: {n} (first: {first}); it acts as "
                "that token only in prompts that are formatted by their author: with the layout "
                "template, or with plain where no chat template is used",
            ),
        ):
            if self._counts[kind]:
                yield text.format(n=f"{self._counts[kind]:,}", first=self._first[kind])


def _end(output: str) -> str:
    """The end token that an output's text ends in; empty if none."""
    return next((end for end in END_TEXTS if output.rstrip().endswith(end)), "")


def _is_special(text: str) -> bool:
    return any(special in text for special in WELL_KNOWN)
