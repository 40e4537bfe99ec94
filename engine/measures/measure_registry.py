"""All measures by name: ours, and those that installed packages offer as entry points.

A package offers a measure of its own by naming a `Measure` in the group `jostle.measures`:

    [project.entry-points."jostle.measures"]
    my_measure = "my_package.measures:MY_MEASURE"
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.errors import InputError
from engine.measures.instruction_difficulty import DIFFICULTY_MEASURES, GOLD_ANSWERS
from engine.measures.label_measures import LABEL_MEASURES, LABEL_PROBABILITIES
from engine.measures.likelihood import LIKELIHOOD_MEASURES
from engine.measures.measure import GOLD_PAIRS, PAIRS, Input, Measure
from engine.measures.output_measures import OUTPUT_MEASURES, SAMPLES
from engine.registry import Registry

INPUTS = Registry(
    "input",
    "jostle.inputs",
    Input,
    lambda: (
        PAIRS,
        GOLD_PAIRS,
        LABEL_PROBABILITIES,
        SAMPLES,
        GOLD_ANSWERS,
    ),
)
"""Every kind of table that measures are computed from, by its name."""

MEASURES = Registry(
    "measure",
    "jostle.measures",
    Measure,
    lambda: (
        *LIKELIHOOD_MEASURES,
        *LABEL_MEASURES,
        *OUTPUT_MEASURES,
        *DIFFICULTY_MEASURES,
    ),
)
"""Every measure by its name."""


def find_measures(names: Sequence[str], needs: str | None = None) -> list[Measure]:
    """The measures of these names.

    Args:
        names: Names; none of them stands for all.
        needs: Only measures from this table.

    Raises:
        InputError: If there is none of a name, or it is computed from another table; the message
            lists the valid names.
    """
    valid = {name: each for name, each in MEASURES.items() if needs in (None, each.needs)}
    for name in names:
        if name not in valid:
            raise InputError(MEASURES.complaint(name, valid), file=needs, field="measure")
    return [valid[name] for name in dict.fromkeys(names)] if names else list(valid.values())
