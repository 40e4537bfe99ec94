"""Layouts: how a task and an instance become one text, or the turns of a conversation.

Whatever differs between instances comes last, so that they share all that stands before it.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from typing import NamedTuple

from engine.perturb.base import Shown, show
from engine.registry import Registry
from engine.tasks import Example, Instance, Task


class Layout(NamedTuple):
    """A layout of one text.

    Attributes:
        name: What it is called.
        text: The prompt of an instance, with all examples that the task has; and whether these show
            their explanations.
        ending: What every prompt ends with.
        joint: What stands between prompt and output; it belongs to the output, for most
            vocabularies put a blank into the token of the word behind it.
    """

    name: str
    text: Callable[[Task, Instance, bool], str]
    ending: str
    joint: str


def super_natural_instructions(task: Task, instance: Instance, explanations: bool) -> str:
    """The layout of Tk-Instruct (Wang et al., 2022, appendix), without the blank at its end."""
    parts = [f"Definition: {_sentence(task.definition)}\n\n"]
    for kind, examples in (
        ("Positive", task.positive_examples),
        ("Negative", task.negative_examples),
    ):
        for number, example in enumerate(examples, start=1):
            parts.append(_numbered(f" {kind} Example {number} -\n", example, explanations))
    parts.append("Now complete the following example -\n")
    parts.append(f"Input: {_sentence(instance.input)}\nOutput:")
    return "".join(parts)


def _numbered(title: str, example: Example, explanations: bool) -> str:
    lines = [
        title,
        f"Input: {_sentence(example.input)}\n",
        f"Output: {_sentence(example.output)}\n",
    ]
    if explanations and example.explanation:
        lines.append(f"Explanation: {_sentence(example.explanation)}\n")
    return "".join([*lines, "\n"])


def _sentence(text: str) -> str:
    stripped = text.strip()
    return stripped if stripped.endswith(tuple(string.punctuation)) else f"{stripped}."


def plain(task: Task, instance: Instance, explanations: bool) -> str:
    """Definition, examples and input as they are, below each other; no input line without input."""
    question = "\n".join([*_input_lines(instance.input), "Output:"])
    return "\n\n".join([task.definition.strip(), *_examples(task, explanations), question])


ALPACA_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
)
ALPACA_WITHOUT_INPUT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.\n\n### Instruction:\n{instruction}\n\n### Response:"
)


def alpaca(task: Task, instance: Instance, explanations: bool) -> str:
    """The layout of Stanford Alpaca (Taori et al., 2023), whose outputs follow without a blank.

    Alpaca knows no examples; those of a task stand below its definition.
    """
    instruction = "\n\n".join([task.definition.strip(), *_examples(task, explanations)])
    if not instance.input.strip():
        return ALPACA_WITHOUT_INPUT.format(instruction=instruction)
    return ALPACA_WITH_INPUT.format(instruction=instruction, input=instance.input.strip())


def conversation(task: Task, instance: Instance, explanations: bool) -> list[dict[str, str]]:
    """Messages of a chat: each positive example is a question with its answer.

    The definition stands at the head of the first question, for not every model takes system
    messages. Negative examples stand below it: a wrong answer must not look like the model's own.
    """
    wrong = show(task, Shown(0, len(task.negative_examples)))
    opening = "\n\n".join([task.definition.strip(), *_examples(wrong, explanations)])
    messages: list[dict[str, str]] = []

    def ask(text: str) -> None:
        parts = [opening] if not messages else []
        parts += [text.strip()] if text.strip() else []
        # A task that is its own input repeats its definition for every question.
        messages.append({"role": "user", "content": "\n\n".join(parts) or opening})

    for example in task.positive_examples:
        ask(example.input)
        answer = [example.output.strip(), *_explanation(example, explanations)]
        messages.append({"role": "assistant", "content": "\n".join(answer)})
    ask(instance.input)
    return messages


def _examples(task: Task, explanations: bool) -> list[str]:
    def lines(example: Example, title: str) -> str:
        return "\n".join(
            [
                *_input_lines(example.input),
                f"{title}: {example.output.strip()}",
                *_explanation(example, explanations),
            ]
        )

    return [
        *(lines(example, "Output") for example in task.positive_examples),
        *(lines(example, "Wrong output") for example in task.negative_examples),
    ]


def _input_lines(text: str) -> Sequence[str]:
    return [f"Input: {text.strip()}"] if text.strip() else []


def _explanation(example: Example, explanations: bool) -> Sequence[str]:
    shown = explanations and example.explanation.strip()
    return [f"Explanation: {example.explanation.strip()}"] if shown else []


LAYOUTS = Registry(
    "layout",
    "jostle.layouts",
    Layout,
    lambda: (
        Layout("super_natural_instructions", super_natural_instructions, "Output:", " "),
        Layout("plain", plain, "Output:", " "),
        Layout("alpaca", alpaca, "### Response:", ""),
    ),
)
"""The layouts of one text that need no template, by name."""
