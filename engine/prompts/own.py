"""A user's own Jinja template."""

from __future__ import annotations

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine.errors import InputError
from engine.prompts.faults import TEMPLATE_FAULTS, described
from engine.prompts.layouts import Layout
from engine.tasks import Example, Instance, Task


class OwnTemplate:
    """Renders prompts with a user's template, in Jinja's sandbox.

    A template sees `definition`, `input`, `positive_examples` and `negative_examples` (each with
    `input`, `output`, `explanation`; those that are shown), `labels`, `category`, `task_id`, and
    the tokenizer's `bos_token` and `eos_token`. An unknown name is an error. The sandbox keeps it
    from everything else, not from time and memory: take templates from people you trust.

    Args:
        source: The template. One newline at its very end does not count.
        name: What errors call it.
        bos_token: Beginning of sequence; empty if the tokenizer has none.
        eos_token: End of sequence.

    Raises:
        InputError: If it is no template, fails on an ordinary task, or leaves out the definition
            or the input.
    """

    def __init__(self, source: str, name: str, bos_token: str, eos_token: str) -> None:
        self._name = name
        environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
        environment.globals.update(bos_token=bos_token, eos_token=eos_token)
        try:
            self._template = environment.from_string(source)
        except TemplateSyntaxError as error:
            raise self._fault(f"line {error.lineno}: {error.message}") from error
        except (TemplateError, RecursionError, SyntaxError, MemoryError) as error:
            raise self._fault(described(error)) from error
        self.layout = self._checked()

    def text(self, task: Task, instance: Instance, _explanations: bool = False) -> str:
        """The prompt.

        Raises:
            InputError: If the template fails, naming it and the instance.
        """
        return self._render(task, instance, f"{task.id}/{instance.id}")

    def _render(self, task: Task, instance: Instance, record: str | None) -> str:
        try:
            return self._template.render(
                task_id=task.id,
                definition=task.definition,
                positive_examples=[one.model_dump() for one in task.positive_examples],
                negative_examples=[one.model_dump() for one in task.negative_examples],
                labels=task.labels,
                category=task.category,
                input=instance.input,
            )
        except TEMPLATE_FAULTS as error:
            raise self._fault(described(error), record) from error

    def _checked(self) -> Layout:
        """The layout, once it is certain that prompts differ where definition or input do."""
        first, *others = (
            self._render(_probe(definition), Instance(id="probe", input=asked), None)
            for definition, asked in (("Say it", "first"), ("Name it", "first"), ("Say it", "last"))
        )
        for field, other in zip(("definition", "input"), others, strict=True):
            if other == first:
                raise self._fault(f"leaves out the {field}")
        ending = _common_ending([first, *others])
        if ending != ending.rstrip():
            return Layout("template", self.text, ending, "")
        return Layout("template", self.text, ending or "Output:", " ")

    def _fault(self, problem: str, record: str | None = None) -> InputError:
        return InputError(problem, file=self._name, record=record, field="prompt.template")


def _probe(definition: str) -> Task:
    example = Example(input="shown", output="said", explanation="because")
    return Task(
        id="probe",
        definition=definition,
        positive_examples=(example,) * 2,
        negative_examples=(example,) * 2,
        labels=("said",),
        category="probe",
    )


def _common_ending(texts: list[str]) -> str:
    """The longest text with which all of them end."""
    length = 0
    for column in zip(*(reversed(text) for text in texts), strict=False):
        if len(set(column)) > 1:
            break
        length += 1
    return texts[0][len(texts[0]) - length :]
