"""All questions by name: ours, and those that installed packages offer as entry points.

A package offers a question of its own by naming a `Question` in the group `jostle.questions`:

    [project.entry-points."jostle.questions"]
    my_question = "my_package.questions:MY_QUESTION"
"""

from __future__ import annotations

import functools
from importlib.metadata import entry_points

from engine.errors import InputError
from engine.protocol.score_config import BASE_MEASURE, ScoreConfig
from engine.questions.label_question import LabelQuestion
from engine.questions.output_question import OutputQuestion
from engine.questions.question import Question

GROUP = "jostle.questions"
"""Entry-point group."""

OURS: tuple[Question, ...] = (
    OutputQuestion(),
    LabelQuestion(),
)


@functools.cache
def all_questions() -> dict[str, Question]:
    """Every question by its name.

    Raises:
        InputError: If an installed package's question cannot be loaded, is none, or takes the name
            or the table of another.
    """
    found = {each.name: each for each in OURS}
    for point in entry_points(group=GROUP):
        try:
            question = point.load()
        except (ImportError, AttributeError) as error:
            raise InputError(f"cannot be loaded: {error}", file=GROUP, record=point.name) from error
        if not isinstance(question, Question):
            problem = f"{point.value} is no engine.questions.question.Question"
            raise InputError(problem, file=GROUP, record=point.name)
        if question.name in found or question.table in {each.table for each in found.values()}:
            problem = f"a question has the name {question.name!r} or the table {question.table!r}"
            raise InputError(problem, file=GROUP, record=point.name)
        found[question.name] = question
    return found


def find_question(
    config: ScoreConfig, source: object | None = None, section: str = ""
) -> Question | None:
    """The question that `config.measure` asks; None where likelihoods are all that is asked for.

    Args:
        source: The file it came from, for messages.
        section: Where it stands there, with a dot.

    Raises:
        InputError: If there is none of this name, the message lists the valid ones; or it does not
            go with the design.
    """
    if config.measure == BASE_MEASURE:
        return None
    question = all_questions().get(config.measure)
    if question is None:
        valid = ", ".join([BASE_MEASURE, *all_questions()])
        problem = f"nothing called {config.measure!r} can be measured; valid: {valid}"
        raise InputError(problem, file=source, field=f"{section}measure")
    if question.crossed and not config.is_crossed:
        problem = f"{config.measure} needs every perturbed prompt with every instance: leave it out"
        field = f"{section}instances_per_perturbation"
        raise InputError(problem, file=source, field=field)
    return question
