"""All strategies by name: ours, and those that installed packages offer as entry points.

[project.entry-points."jostle.strategies"]
my_strategy = "my_package.strategies:MyStrategy"
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny, ValidationError

from engine.errors import InputError
from engine.protocol.score_config import BASE_MEASURE, ScoreConfig
from engine.validation import first_fault
from training.selection.strategy import Strategy

GROUP = "jostle.strategies"
"""Entry-point group."""


@functools.cache
def all_strategies() -> dict[str, type[Strategy]]:
    """The class of every strategy by its name.

    Raises:
        InputError: If an installed package's strategy cannot be loaded, is none, or takes a name
            that is taken.
    """
    from training.selection import diverse, groups, ranking

    ours = (
        ranking.PromptUncertainty,
        ranking.OutputDisagreement,
        ranking.LabelBald,
        ranking.Perplexity,
        ranking.Column,
        ranking.Random,
        groups.MapCategory,
        groups.PerCategory,
        groups.Stratified,
        groups.ClassificationShare,
        diverse.Diverse,
        groups.Mix,
    )
    found: dict[str, type[Strategy]] = {_name(each): each for each in ours}
    for point in entry_points(group=GROUP):
        try:
            strategy = point.load()
        except (ImportError, AttributeError) as error:
            raise InputError(f"cannot be loaded: {error}", file=GROUP, record=point.name) from error
        if not (isinstance(strategy, type) and issubclass(strategy, Strategy)):
            problem = f"{point.value} is no subclass of training.selection.strategy.Strategy"
            raise InputError(problem, file=GROUP, record=point.name)
        name = _name(strategy)
        if name in found:
            problem = f"a strategy is called {name!r} already"
            raise InputError(problem, file=GROUP, record=point.name)
        found[name] = strategy
    return found


def _name(strategy: type[Strategy]) -> str:
    return str(strategy.model_fields["name"].default)


def find_strategy(name: str, file: object | None = None) -> type[Strategy]:
    """The class of the strategy of this name.

    Raises:
        InputError: If there is none; the message lists the valid names.
    """
    strategies = all_strategies()
    if name not in strategies:
        raise InputError(
            f"no strategy is called {name!r}; valid: {', '.join(sorted(strategies))}",
            file=file,
            field="name",
        )
    return strategies[name]


def check_measured(name: str, config: ScoreConfig) -> None:
    """That a design measures what the strategy of this name ranks by.

    Raises:
        InputError: If it does not, or there is no such strategy.
    """
    needed = find_strategy(name).measure
    if needed not in (BASE_MEASURE, config.measure):
        problem = f"{name!r} needs score.measure = {needed!r}, it is {config.measure!r}"
        raise InputError(problem, field="select.strategy")


def parse_strategy(values: Mapping[str, Any] | str, file: object | None = None) -> Strategy:
    """A strategy from its name, or from its settings with `name` among them.

    Raises:
        InputError: If the name is unknown, or a setting is unknown, missing or wrong; the message
            lists the valid ones.
    """
    given = {"name": values} if isinstance(values, str) else dict(values)
    if not isinstance(given.get("name"), str):
        names = ", ".join(sorted(all_strategies()))
        raise InputError(f"give the strategy's name; valid: {names}", file=file, field="name")
    strategy = find_strategy(given["name"], file)
    try:
        return strategy.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        problem, field = first_fault(error)
        if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
            valid = sorted(set(strategy.model_fields) - {"name"})
            problem = f"unknown setting of {given['name']}; valid: {', '.join(valid) or 'none'}"
        raise InputError(problem, file=file, field=field) from error


def _parse(value: Any) -> Any:
    return parse_strategy(value) if isinstance(value, (str, Mapping)) else value


AnyStrategy = Annotated[SerializeAsAny[Strategy], BeforeValidator(_parse)]
"""A field that holds any strategy, told apart by `name`; written out with all its settings."""
