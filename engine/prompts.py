"""From task and instance to token ids, the same ones for scoring, training and evaluation."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.config import PromptConfig
from engine.errors import InputError
from engine.perturb.base import Shown, show
from engine.tasks import Example, Instance, Task

_SENTINEL = "@@jostle-prompt@@"

_LAST_WORD = "Output:"
"""What every prompt ends with."""


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """A prompt as token ids.

    Attributes:
        token_ids: The ids, special tokens included.
        n_positive_examples: Positive examples that fit the context.
        n_negative_examples: Negative examples that fit the context.
    """

    token_ids: tuple[int, ...]
    n_positive_examples: int
    n_negative_examples: int


class PromptBuilder:
    """Renders and encodes prompts.

    Args:
        tokenizer: A transformers tokenizer.
        config: The layout.
        max_model_len: The model's context, in tokens, prompt and output together.

    Raises:
        InputError: If a chat template is demanded and the tokenizer has none, or the tokenizer has
            no end-of-sequence token.
    """

    def __init__(self, tokenizer: Any, config: PromptConfig, max_model_len: int) -> None:
        self.tokenizer = tokenizer
        self.config = config
        self.max_model_len = max_model_len
        has_template = bool(getattr(tokenizer, "chat_template", None))
        if config.chat_template == "always" and not has_template:
            raise InputError("the tokenizer has no chat template", field="prompt.chat_template")
        if tokenizer.eos_token_id is None:
            raise InputError("the tokenizer has no end-of-sequence token", field="model")
        self.uses_chat_template = has_template and config.chat_template != "never"
        self._head, self._tail = self._template_parts()

    def _template_parts(self) -> tuple[str, str]:
        """What the chat template puts before and behind a user message; rendered only once."""
        if not self.uses_chat_template:
            return "", ""
        rendered = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": _SENTINEL}], tokenize=False, add_generation_prompt=True
        )
        head, found, tail = rendered.partition(_SENTINEL)
        if not found:
            raise InputError("the chat template leaves the user message out", field="model")
        if _SENTINEL in tail:
            raise InputError(
                "the chat template shows the user message more than once", field="model"
            )
        return head, tail

    def text(self, task: Task, instance: Instance) -> str:
        """The prompt as text, with all of the task's examples, chat template included."""
        return f"{self._head}{super_natural_instructions(task, instance, self.config)}{self._tail}"

    def encode(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Token ids of rendered prompts.

        A chat template writes its special tokens itself; plain text gets the tokenizer's beginning
        of sequence, and never an end of sequence, which would say that the answer is over.
        """
        rows = self.tokenizer(list(texts), add_special_tokens=not self.uses_chat_template)
        eos = self.tokenizer.eos_token_id
        plain = not self.uses_chat_template
        return [
            tuple(ids[:-1] if plain and len(ids) > 1 and ids[-1] == eos else ids)
            for ids in rows["input_ids"]
        ]

    def prompt(
        self,
        task: Task,
        instance: Instance,
        max_output_tokens: int,
        also: Callable[[Shown], Sequence[Task]] | None = None,
    ) -> EncodedPrompt:
        """The original prompt with as many examples as fit beside `max_output_tokens`.

        Negative examples give way first, then positive ones, the last before the first.

        Args:
            task: The task.
            instance: The instance.
            max_output_tokens: Longest output, in tokens.
            also: Other forms of the task with so many examples, whose prompts must fit as well.

        Raises:
            InputError: If a prompt is too long even without examples.
        """
        # One position stays free, as `engine.plan.check_length` demands for scoring.
        room = self.max_model_len - max_output_tokens - 1
        n_positive = min(len(task.positive_examples), self.config.n_positive_examples)
        n_negative = min(len(task.negative_examples), self.config.n_negative_examples)
        while True:
            shown = Shown(n_positive, n_negative)
            forms = [show(task, shown), *(also(shown) if also else ())]
            token_ids, *others = self.encode([self.text(form, instance) for form in forms])
            longest = max(map(len, [token_ids, *others]))
            if longest <= room:
                return EncodedPrompt(token_ids, n_positive, n_negative)
            if n_negative:
                n_negative -= 1
            elif n_positive:
                n_positive -= 1
            else:
                which = "the" if longest == len(token_ids) else "a perturbed"
                raise InputError(
                    f"{which} prompt has {longest} tokens without examples; the context of "
                    f"{self.max_model_len} leaves room for {room} beside the output",
                    record=f"{task.id}/{instance.id}",
                    field="input",
                )

    def completion(self, output: str) -> tuple[int, ...]:
        """Token ids of an output as the model would write it, end of sequence included.

        Behind plain text, the ids are those that the output has after the prompt's last word. Alone
        it would get other ones where a tokenizer puts a blank before every text (Llama 2).
        """
        if self.uses_chat_template:
            return (*self._plain_ids(output), self.tokenizer.eos_token_id)
        before, ids = self._plain_ids(_LAST_WORD), self._plain_ids(f"{_LAST_WORD} {output}")
        if ids[: len(before)] != before:  # a token spans both
            return (*self._plain_ids(f" {output}"), self.tokenizer.eos_token_id)
        return (*ids[len(before) :], self.tokenizer.eos_token_id)

    def _plain_ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def super_natural_instructions(task: Task, instance: Instance, config: PromptConfig) -> str:
    """The layout of Tk-Instruct (Wang et al., 2022, appendix), without the blank at its end.

    The blank before the output belongs to the output: most vocabularies put it into the
    token of the word.
    """
    parts = [f"Definition: {_sentence(task.definition)}\n\n"]
    for kind, examples in (
        ("Positive", task.positive_examples),
        ("Negative", task.negative_examples),
    ):
        for number, example in enumerate(examples, start=1):
            parts.append(_example(f" {kind} Example {number} -\n", example, config.explanations))
    parts.append("Now complete the following example -\n")
    parts.append(f"Input: {_sentence(instance.input)}\n{_LAST_WORD}")
    return "".join(parts)


def _example(title: str, example: Example, explanations: bool) -> str:
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
