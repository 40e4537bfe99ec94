"""What a tokenizer's chat template puts around messages."""

from __future__ import annotations

import datetime
from typing import Any

from engine.errors import InputError
from engine.prompts.faults import TEMPLATE_FAULTS, described
from engine.prompts.special import SpecialTexts

_QUESTION = "@@jostle-prompt@@"
_ANSWER = "@@jostle-answer@@"

TODAY = datetime.datetime(2024, 7, 26)
"""What templates that tell the model the date take for today: a prompt, and what is scored and
trained with it, is the same tomorrow. It is the day that Llama 3.2's template names where it is
told none."""


class ChatTemplate:
    """A tokenizer's chat template; it writes all special tokens of a prompt itself.

    Args:
        tokenizer: A transformers tokenizer that has one.

    Attributes:
        tail: What the template puts behind the last question.
        joint: Blanks it puts between that and an answer.
        closing: What it puts behind an answer, up to and with the token that ends the turn; empty
            if it writes no such token.

    Raises:
        InputError: If the template fails, or shows a message not exactly once.
    """

    def __init__(self, tokenizer: Any, special: SpecialTexts) -> None:
        self._tokenizer = tokenizer
        rendered = self.conversation([{"role": "user", "content": _QUESTION}])
        self._head, found, self.tail = rendered.partition(_QUESTION)
        if not found:
            raise InputError("the chat template leaves the user message out", field="model")
        if _QUESTION in self.tail:
            raise InputError(
                "the chat template shows the user message more than once", field="model"
            )
        self.joint, behind = self._around_answer()
        self.closing = special.up_to_first(behind)

    def wrap(self, text: str) -> str:
        """The prompt with this text as its one question."""
        return f"{self._head}{text}{self.tail}"

    def conversation(self, messages: list[dict[str, str]]) -> str:
        """The prompt with these messages, of which the last is a question.

        Raises:
            InputError: If the template refuses them.
        """
        return self._render(messages, add_generation_prompt=True)

    def _render(self, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    messages,
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                    strftime_now=TODAY.strftime,  # in the place of transformers' own
                )
            )
        except TEMPLATE_FAULTS as error:
            problem = f"the chat template fails: {described(error)}"
            raise InputError(problem, field="model") from error

    def _around_answer(self) -> tuple[str, str]:
        messages = [
            {"role": "user", "content": _QUESTION},
            {"role": "assistant", "content": _ANSWER},
        ]
        whole = self._render(messages, add_generation_prompt=False)
        before, _, behind = whole.partition(_ANSWER)
        joint = before.removeprefix(self.wrap(_QUESTION))
        # What is no blank (an empty thought, say) is the model's to write.
        return joint if not joint.strip() else "", behind
