"""The strategy keeps what every strategy promises."""

from training.selection import parse_strategy
from training.selection.strategy_testing import check_strategy


def test_unsure() -> None:
    check_strategy(parse_strategy("unsure"))
