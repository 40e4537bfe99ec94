"""The prompts of a model: the same token ids for scoring, training and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.config import PromptConfig
from engine.errors import InputError
from engine.perturb.base import Shown, show
from engine.prompts.chat import ChatTemplate
from engine.prompts.layouts import Layout, conversation, fixed_layout
from engine.prompts.own import OwnTemplate
from engine.tasks import Instance, Task


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
        InputError: If a chat template is demanded and the tokenizer has none, the tokenizer has no
            end-of-sequence token, or the user's own template is at fault.
    """

    def __init__(self, tokenizer: Any, config: PromptConfig, max_model_len: int) -> None:
        self.tokenizer = tokenizer
        self.config = config
        self.max_model_len = max_model_len
        if tokenizer.eos_token_id is None:
            raise InputError("the tokenizer has no end-of-sequence token", field="model")
        self._chat = self._chosen_chat()
        self._layout = self._chosen_layout()

    @property
    def uses_chat_template(self) -> bool:
        """Whether prompts are wrapped by the tokenizer's chat template."""
        return self._chat is not None

    def _chosen_chat(self) -> ChatTemplate | None:
        demanded = self.config.chat_template == "always" or self.config.layout == "chat"
        if getattr(self.tokenizer, "chat_template", None):
            # A template of the user's own says all there is to say, special tokens included.
            unwanted = self.config.chat_template == "never" or self.config.layout == "template"
            return ChatTemplate(self.tokenizer) if demanded or not unwanted else None
        if demanded:
            raise InputError("the tokenizer has no chat template", field="prompt.chat_template")
        return None

    def _chosen_layout(self) -> Layout:
        if self.config.template is None:
            return fixed_layout(self.config)
        return OwnTemplate(
            self.config.template,
            self.config.template_name,
            getattr(self.tokenizer, "bos_token", None) or "",
            getattr(self.tokenizer, "eos_token", None) or "",
        ).layout

    def text(self, task: Task, instance: Instance) -> str:
        """The prompt as text, with all of the task's examples, chat template included."""
        if self._chat is None:
            return self._layout.text(task, instance)
        if self.config.layout == "chat":
            return self._chat.conversation(conversation(task, instance, self.config))
        return self._chat.wrap(self._layout.text(task, instance))

    def encode(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Token ids of rendered prompts.

        A chat template writes its special tokens itself. Other text gets the tokenizer's beginning
        of sequence unless it begins with one, and never an end of sequence, which would say that
        the answer is over.
        """
        rows = self.tokenizer(list(texts), add_special_tokens=self._chat is None)["input_ids"]
        if self._chat is not None:
            return [tuple(ids) for ids in rows]
        return [self._bare(text, ids) for text, ids in zip(texts, rows, strict=True)]

    def _bare(self, text: str, ids: Sequence[int]) -> tuple[int, ...]:
        """The ids without an end of sequence behind them, and without a second beginning."""
        if len(ids) > 1 and ids[-1] == self.tokenizer.eos_token_id:
            ids = ids[:-1]
        begin = getattr(self.tokenizer, "bos_token", None)
        if begin and text.startswith(begin) and list(ids[:2]) == [self.tokenizer.bos_token_id] * 2:
            ids = ids[1:]
        return tuple(ids)

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

        They are those that the output has behind a prompt's ending. Alone it would get other ones
        where a tokenizer puts a blank before every text (Llama 2).
        """
        if self._chat is not None:
            ending, joint = self._chat.tail, self._chat.joint
        else:
            ending, joint = self._layout.ending, self._layout.joint
        end = self.tokenizer.eos_token_id
        before, ids = self._plain_ids(ending), self._plain_ids(f"{ending}{joint}{output}")
        if ids[: len(before)] != before:  # a token spans both
            return (*self._plain_ids(f"{joint}{output}"), end)
        return (*ids[len(before) :], end)

    def _plain_ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
