from __future__ import annotations

import dataclasses

import pytest

from engine.errors import InputError
from engine.measures.compute import compute_measures
from engine.measures.measure import Measure
from engine.measures.measure_registry import MEASURES, find_measures
from engine.measures.measure_testing import check_measure, draw_table
from tests.engine.offered import offer

OWN = Measure(
    name="longest_output",
    title="longest reference output",
    formula="max over i of n_tokens(i)",
    source="this test",
    needs="pairs",
    uncertain="high",
    lowest=1,
    highest=1e6,
    compute=lambda grid: grid.n_tokens.max(),
)


@pytest.mark.parametrize("measure", [*MEASURES.values(), OWN], ids=lambda each: each.name)
def test_every_measure_keeps_its_promises(measure: Measure) -> None:
    check_measure(measure)


def broken(**changes: object) -> Measure:
    return dataclasses.replace(OWN, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("measure", "complaint"),
    [
        (broken(name="Longest Output"), "no column name"),
        (broken(source=""), "has no source"),
        (broken(highest=2), "range"),
        (broken(compute=lambda grid: None), "measures nothing"),
        (
            broken(needs="samples", compute=lambda samples: ord(next(iter(samples))[1]) + 1.0),
            "the order of the rows matters",
        ),
    ],
)
def test_the_kit_finds_broken_promises(measure: Measure, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_measure(measure)


def test_a_package_may_bring_a_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, MEASURES, OWN)
    (measure,) = find_measures(["longest_output"])
    assert measure is OWN
    assert "longest_output" in compute_measures(draw_table("pairs")).columns


def test_an_unknown_name_lists_the_valid_ones() -> None:
    expected = r"unknown measure 'uncertain'; valid here: .*perplexity.*, sample_bald"
    with pytest.raises(InputError, match=expected):
        find_measures(["uncertain"])
    expected = r"samples, field 'measure': unknown measure 'perplexity'; valid here: self_cons"
    with pytest.raises(InputError, match=expected):
        find_measures(["perplexity"], "samples")
