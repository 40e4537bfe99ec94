"""What a scoring request may choose: prompts, perturbations and the design."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from engine.perturb import DropWords, PerturbationConfig
from engine.tasks import Record

Layout = Literal["super_natural_instructions", "plain", "alpaca", "chat", "template"]


class PromptConfig(Record):
    """How a task and an instance become a prompt.

    Attributes:
        layout: `super_natural_instructions` is the layout of Tk-Instruct (Wang et al., 2022);
            `plain` has the texts as they are; `alpaca` is that of Stanford Alpaca; `chat` makes the
            examples turns of a conversation; `template` is the user's own, see below.
        chat_template: `auto` wraps the prompt as a user message when the tokenizer has a chat
            template, except that `template` is taken to say it all; `always` insists on one;
            `never` sends plain text.
        n_positive_examples: Positive examples shown, at most; fewer when the context is short.
        n_negative_examples: Negative examples shown, at most.
        explanations: Whether examples show their explanations.
        template: A Jinja template, see `engine.prompts.own`. In a config file `template_file` may
            name a file, from the config's folder, that holds it.
        template_name: What errors call it.
    """

    layout: Layout = "super_natural_instructions"
    chat_template: Literal["auto", "always", "never"] = "auto"
    n_positive_examples: Annotated[int, Field(ge=0, le=64)] = 2
    n_negative_examples: Annotated[int, Field(ge=0, le=64)] = 0
    explanations: bool = False
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


class ScoreConfig(Record):
    """Everything a score depends on beside the task and the weights.

    Attributes:
        n_instances: Instances measured per task, n.
        n_perturbations: Perturbed prompts per task, k; the original prompt comes on top.
        max_output_tokens: Longest reference output, in tokens.
        reference: `generated` scores the model's own greedy output, `gold` the first gold output.
        seed: Seed of the instance sample and of the perturbations.
        prompt: How prompts are laid out.
        perturbation: How prompts are perturbed; told apart by its `name`, see `engine.perturb`.
    """

    n_instances: Annotated[int, Field(ge=1, le=10_000)] = 10
    n_perturbations: Annotated[int, Field(ge=1, le=1_000)] = 10
    max_output_tokens: Annotated[int, Field(ge=1, le=4_096)] = 32
    reference: Literal["generated", "gold"] = "generated"
    seed: int = 0
    prompt: PromptConfig = PromptConfig()
    perturbation: PerturbationConfig = DropWords()
