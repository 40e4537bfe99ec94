"""All measures by name: ours, and those that installed packages offer as entry points.

A package offers a measure of its own by naming a `Measure` in the group `jostle.measures`:

    [project.entry-points."jostle.measures"]
    my_measure = "my_package.measures:MY_MEASURE"
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib.metadata import entry_points

from engine.errors import InputError
from engine.measures.label_measures import LABEL_MEASURES
from engine.measures.likelihood import LIKELIHOOD_MEASURES
from engine.measures.measure import Input, Measure
from engine.measures.output_measures import OUTPUT_MEASURES

GROUP = "jostle.measures"
"""Entry-point group."""


@functools.cache
def all_measures() -> dict[str, Measure]:
    """Every measure by its name.

    Raises:
        InputError: If an installed package's measure cannot be loaded, is none, or takes a name
            that is taken.
    """
    found = {each.name: each for each in (*LIKELIHOOD_MEASURES, *LABEL_MEASURES, *OUTPUT_MEASURES)}
    for point in entry_points(group=GROUP):
        try:
            measure = point.load()
        except (ImportError, AttributeError) as error:
            raise InputError(f"cannot be loaded: {error}", file=GROUP, record=point.name) from error
        if not isinstance(measure, Measure):
            problem = f"{point.value} is no engine.measures.measure.Measure"
            raise InputError(problem, file=GROUP, record=point.name)
        if measure.name in found:
            problem = f"a measure is called {measure.name!r} already"
            raise InputError(problem, file=GROUP, record=point.name)
        found[measure.name] = measure
    return found


def find_measures(names: Sequence[str], needs: Input | None = None) -> list[Measure]:
    """The measures of these names.

    Args:
        names: Names; none of them stands for all.
        needs: Only measures from this table.

    Raises:
        InputError: If there is none of a name, or it is computed from another table; the message
            lists the valid names.
    """
    valid = {
        name: each for name, each in all_measures().items() if needs is None or each.needs == needs
    }
    for name in names:
        if name not in valid:
            where = "" if needs is None else f" that is computed from {needs}"
            problem = f"no measure{where} is called {name!r}; valid: {', '.join(sorted(valid))}"
            raise InputError(problem, field="measure")
    return [valid[name] for name in names] if names else list(valid.values())
