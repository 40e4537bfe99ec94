"""A layout: the parts of a prompt between tags, as some models like them."""

from __future__ import annotations

from engine.prompts.layouts import Layout
from engine.tasks import Instance, Task


def tagged(task: Task, instance: Instance, explanations: bool) -> str:
    """Definition and examples first: all instances of a task share what stands before theirs."""
    parts = [f"<task>{task.definition.strip()}</task>"]
    for example in task.positive_examples:
        why = f"<why>{example.explanation}</why>" if explanations and example.explanation else ""
        parts.append(f"<input>{example.input}</input><output>{example.output}</output>{why}")
    return "\n".join([*parts, f"<input>{instance.input}</input><output>"])


TAGGED = Layout("tagged", tagged, ending="<output>", joint="")
