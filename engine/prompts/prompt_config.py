"""How a task and an instance become a prompt, as a person says it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from engine.prompts.layouts import LAYOUTS
from engine.tasks import Record


def _names() -> list[str]:
    """Of all layouts; these two are no text of one form."""
    return [*LAYOUTS, "chat", "template"]


def _known(name: str) -> str:
    if name not in _names():
        complaint = LAYOUTS.complaint(name, _names())
        raise PydanticCustomError("unknown_layout", "{text}", {"text": complaint})
    return name


class PromptConfig(Record):
    """How a task and an instance become a prompt.

    Attributes:
        layout: `super_natural_instructions` is the layout of Tk-Instruct (Wang et al., 2022);
            `plain` has the texts as they are; `alpaca` is that of Stanford Alpaca; `chat` makes the
            examples turns of a conversation; `template` is the user's own, see below. Packages
            offer others (`engine.registry`).
        chat_template: `auto` wraps the prompt as a user message when the tokenizer has a chat
            template, except that `template` is taken to say it all; `always` insists on one;
            `never` sends plain text.
        n_positive_examples: Positive examples shown, at most; fewer when the context is short.
        n_negative_examples: Negative examples shown, at most.
        explanations: Whether examples show their explanations.
        strip_end_tokens: Whether outputs lose the end tokens that their texts end in, such as
            `<|endoftext|>`; see `engine.prompts.special` for which. Else they are text.
        template: A Jinja template, see `engine.prompts.own`. In a config file `template_file` may
            name a file, from the config's folder, that holds it.
        template_name: What errors call it.
    """

    layout: Annotated[
        str,
        AfterValidator(_known),
        Field(json_schema_extra=lambda schema: schema.update(enum=_names())),
    ] = "super_natural_instructions"
    chat_template: Literal["auto", "always", "never"] = "auto"
    n_positive_examples: Annotated[int, Field(ge=0, le=64)] = 2
    n_negative_examples: Annotated[int, Field(ge=0, le=64)] = 0
    explanations: bool = False
    strip_end_tokens: bool = False
    template: str | None = None
    template_name: Annotated[str, Field(min_length=1)] = "template"

    @model_validator(mode="after")
    def _go_together(self) -> PromptConfig:
        if (self.layout == "template") != (self.template is not None):
            raise PydanticCustomError(
                "template", "the layout 'template' needs a template, and no other does"
            )
        if self.layout == "chat" and self.chat_template == "never":
            raise PydanticCustomError("chat", "the layout 'chat' needs the chat template")
        return self
