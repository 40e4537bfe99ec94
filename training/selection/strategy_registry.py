"""All strategies by name: ours, and those that installed packages offer as entry points.

[project.entry-points."jostle.strategies"]
my_strategy = "my_package.strategies:MyStrategy"
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny, ValidationError

from engine.errors import InputError
from engine.protocol.score_config import BASE_MEASURE, ScoreConfig
from engine.registry import Registry
from engine.tasks import Record
from engine.validation import first_fault
from training.selection.strategy import Strategy


def _ours() -> tuple[type[Strategy], ...]:
    from training.selection import diverse, groups, ranking

    return (
        ranking.PromptUncertainty,
        ranking.FlipRate,
        ranking.OutputDisagreement,
        ranking.LabelBald,
        ranking.InstructionFollowingDifficulty,
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


STRATEGIES: Registry[type[Strategy]] = Registry(
    "strategy", "jostle.strategies", Strategy, _ours, classes=True
)
"""The class of every strategy by its name."""


def check_measured(
    strategy: Strategy, config: ScoreConfig, columns: Collection[str] | None = None
) -> None:
    """That a design measures what a strategy ranks by, and those that it hands parts to.

    Args:
        columns: Those of the scores; None: not known.

    Raises:
        InputError: If it does not.
    """
    for each in _all_in(strategy):
        if each.measure not in (BASE_MEASURE, config.measure):
            problem = f"needs score.measure = {each.measure!r}, it is {config.measure!r}"
            raise InputError(f"{each.name!r} {problem}", field="select.strategy")
        for name in each.columns():
            if columns is not None and name not in columns:
                there = ", ".join(sorted(columns))
                problem = f"the scores have no column {name!r}; there are: {there}"
                raise InputError(problem, field="select.strategy")


def _all_in(value: object) -> Iterator[Strategy]:
    """A strategy and those among its settings."""
    if isinstance(value, tuple):
        for each in value:
            yield from _all_in(each)
    elif isinstance(value, Record):
        if isinstance(value, Strategy):
            yield value
        for name in type(value).model_fields:
            yield from _all_in(getattr(value, name))


def parse_strategy(values: Mapping[str, Any] | str, file: object | None = None) -> Strategy:
    """A strategy from its name, or from its settings with `name` among them.

    Raises:
        InputError: If the name is unknown, or a setting is unknown, missing or wrong; the message
            lists the valid ones.
    """
    given = {"name": values} if isinstance(values, str) else dict(values)
    if not isinstance(given.get("name"), str):
        names = ", ".join(STRATEGIES)
        raise InputError(f"give the strategy's name; valid: {names}", file=file, field="name")
    strategy = STRATEGIES.find(given["name"], file=file, field="name")
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
