"""The prompts of a model: the same token ids for scoring, training and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.errors import InputError
from engine.perturb.base import Shown, show
from engine.prompts.chat_template import ChatTemplate
from engine.prompts.layouts import LAYOUTS, Layout, conversation
from engine.prompts.own import OwnTemplate
from engine.prompts.prompt_config import PromptConfig
from engine.prompts.special import CUT, without_end_texts
from engine.prompts.text_encoder import TextEncoder
from engine.tasks import Example, Instance, Task


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """A prompt as token ids.

    Attributes:
        token_ids: The ids, special tokens included.
        n_positive_examples: Positive examples that fit the context.
        n_negative_examples: Negative examples that fit the context.
        also: Token ids of the other forms that had to fit, see `PromptBuilder.prompt`.
    """

    token_ids: tuple[int, ...]
    n_positive_examples: int
    n_negative_examples: int
    also: tuple[tuple[int, ...], ...] = ()


class PromptBuilder:
    """Renders and encodes prompts.

    The text of a special token in a task is text like any other, and never acts as that token. Only
    where authors format their prompts themselves it does: with the layout `template`, and with
    `plain` where no chat template is used.

    Args:
        tokenizer: A transformers tokenizer.
        max_model_len: The model's context, in tokens, prompt and output together.

    Attributes:
        end: The token that ends an output: the one with which the chat template ends an answer, or
            else the tokenizer's end of sequence.

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
        self._encoder = TextEncoder(tokenizer)
        self._special = self._encoder.special
        self._chat = self._chosen_chat()
        self._layout = self._chosen_layout()
        by_author = ("template",) if self._chat else ("template", "plain")
        self._guards = config.layout not in by_author
        self._closing = self._chat.closing if self._chat else ""
        self.end: int = (
            self._encoder.ids(self._closing)[-1] if self._closing else tokenizer.eos_token_id
        )

    @property
    def uses_chat_template(self) -> bool:
        """Whether prompts are wrapped by the tokenizer's chat template."""
        return self._chat is not None

    def _chosen_chat(self) -> ChatTemplate | None:
        demanded = self.config.chat_template == "always" or self.config.layout == "chat"
        if getattr(self.tokenizer, "chat_template", None):
            # A template of the user's own says all there is to say, special tokens included.
            unwanted = self.config.chat_template == "never" or self.config.layout == "template"
            if unwanted and not demanded:
                return None
            return ChatTemplate(self.tokenizer, self._special)
        if demanded:
            raise InputError("the tokenizer has no chat template", field="prompt.chat_template")
        return None

    def _chosen_layout(self) -> Layout:
        if self.config.template is None:
            # A conversation is no one text.
            return LAYOUTS.get(self.config.layout, LAYOUTS["plain"])
        return OwnTemplate(
            self.config.template,
            self.config.template_name,
            getattr(self.tokenizer, "bos_token", None) or "",
            getattr(self.tokenizer, "eos_token", None) or "",
        ).layout

    def clean(self, task: Task) -> Task:
        """The task with the outputs that prompts and completions show.

        A blank output is none. The others, and labels, lose the blanks at their ends, as examples
        do in prompts; a template's author has formatted them. Where the config says so, all lose
        the end tokens that their texts end in.
        """
        instances = []
        for instance in task.instances:
            golds = tuple(filter(str.strip, map(self._output, instance.golds)))
            same = golds == instance.outputs
            instances.append(instance if same else instance.model_copy(update={"outputs": golds}))

        def examples(given: Iterable[Example]) -> tuple[Example, ...]:
            return tuple(
                one.model_copy(update={"output": without_end_texts(one.output)}) for one in given
            )

        changed: dict[str, Any] = {
            "instances": tuple(instances),
            "labels": tuple(filter(str.strip, map(self._output, task.labels))),
        }
        if self.config.strip_end_tokens:
            changed["positive_examples"] = examples(task.positive_examples)
            changed["negative_examples"] = examples(task.negative_examples)
        return task.model_copy(update=changed)

    def _output(self, text: str) -> str:
        text = without_end_texts(text) if self.config.strip_end_tokens else text
        return text if self.config.layout == "template" else text.strip()

    def text(self, task: Task, instance: Instance) -> str:
        """The prompt as text, with all of the task's examples, chat template included."""
        return self._guarded_text(task, instance).replace(CUT, "")

    def _guarded_text(self, task: Task, instance: Instance) -> str:
        """The same, the special tokens in the task's texts cut."""
        if self._chat is not None and self.config.layout == "chat":
            messages = conversation(task, instance, self.config.explanations)
            return self._chat.conversation(
                [{**each, "content": self._special.cut(each["content"])} for each in messages]
            )
        text = self._layout.text(task, instance, self.config.explanations)
        if self._guards:
            text = self._special.cut(text)
        return self._chat.wrap(text) if self._chat else text

    def token_ids(self, prompts: Iterable[tuple[Task, Instance]]) -> list[tuple[int, ...]]:
        """Token ids of prompts, each with all examples that its task has."""
        return self.encode([self._guarded_text(task, instance) for task, instance in prompts])

    def encode(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Token ids of rendered prompts.

        A chat template writes its special tokens itself. Other text gets the tokenizer's beginning
        of sequence unless it begins with one, and never an end of sequence, which would say that
        the answer is over.
        """
        rows = self._encoder.encode(texts, begin=self._chat is None)
        return rows if self._chat else [self._bare(ids) for ids in rows]

    def _bare(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        """The ids without an end of sequence that an author has written behind them."""
        return ids[:-1] if len(ids) > 1 and ids[-1] == self.tokenizer.eos_token_id else ids

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
            max_output_tokens: Longest output, in tokens.
            also: Other forms of the task with so many examples, whose prompts must fit as well.

        Raises:
            InputError: If a prompt is too long even without examples.
        """
        # One position stays free, as `engine.questions.pair_plan.check_length` demands for scoring.
        room = self.max_model_len - max_output_tokens - 1
        n_positive = min(len(task.positive_examples), self.config.n_positive_examples)
        n_negative = min(len(task.negative_examples), self.config.n_negative_examples)
        while True:
            shown = Shown(n_positive, n_negative)
            forms = [show(task, shown), *(also(shown) if also else ())]
            token_ids, *others = self.token_ids((form, instance) for form in forms)
            longest = max(map(len, [token_ids, *others]))
            if longest <= room:
                return EncodedPrompt(token_ids, n_positive, n_negative, tuple(others))
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
        """Token ids of an output as the model would write it, the token that ends it included.

        They are those that the output has behind a prompt's ending. Alone it would get other ones
        where a tokenizer puts a blank before every text (Llama 2).
        """
        shape = self._chat or self._layout
        ending = self._chat.tail if self._chat else self._layout.ending
        # An author's own end is the end.
        ended = not self._guards and self._encoder.ids(output)[-1:] == [self.end]
        text = f"{shape.joint}{self._special.cut(output) if self._guards else output}"
        first, *others = (text if ended else text + self._closing).split(CUT)
        ids = (*self._encoder.behind(ending, first), *self._encoder.inner(others))
        return ids if ended or self._closing else (*ids, self.end)

    def decode(self, output: Sequence[int]) -> str:
        """The text of an output, without special tokens and the token that ends it."""
        ids = output[:-1] if output and output[-1] == self.end else output
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))
