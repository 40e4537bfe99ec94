"""The measure keeps what every measure promises."""

from engine.measures.measure_registry import MEASURES
from engine.measures.measure_testing import check_measure


def test_halved_share() -> None:
    check_measure(MEASURES["halved_share"])
