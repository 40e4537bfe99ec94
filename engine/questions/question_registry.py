"""All questions by name: ours, and those that installed packages offer as entry points.

A package offers a question of its own by naming a `Question` in the group `jostle.questions`:

    [project.entry-points."jostle.questions"]
    my_question = "my_package.questions:MY_QUESTION"
"""

from __future__ import annotations

from engine.errors import InputError
from engine.protocol.score_config import BASE_MEASURE, ScoreConfig
from engine.questions.difficulty_question import DifficultyQuestion
from engine.questions.label_question import LabelQuestion
from engine.questions.output_question import OutputQuestion
from engine.questions.question import Question
from engine.registry import Registry

OURS: tuple[Question, ...] = (
    OutputQuestion(),
    LabelQuestion(),
    DifficultyQuestion(),
)


QUESTIONS = Registry("question", "jostle.questions", Question, lambda: OURS, unique=("table",))
"""Every question by its name."""


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
    question = QUESTIONS.get(config.measure)
    if question is None:
        valid = ", ".join([BASE_MEASURE, *QUESTIONS])
        problem = f"nothing called {config.measure!r} can be measured; valid: {valid}"
        raise InputError(problem, file=source, field=f"{section}measure")
    if question.crossed and not config.is_crossed:
        problem = f"{config.measure} needs every perturbed prompt with every instance: leave it out"
        field = f"{section}instances_per_perturbation"
        raise InputError(problem, file=source, field=field)
    return question
