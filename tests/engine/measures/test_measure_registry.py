from __future__ import annotations

import dataclasses
from importlib.metadata import EntryPoint

import pytest

from engine.errors import InputError
from engine.measures import measure_registry as registry
from engine.measures.compute import compute_measures
from engine.measures.likelihood import LIKELIHOOD_MEASURES
from engine.measures.measure import Measure
from engine.measures.measure_registry import all_measures, find_measures
from engine.measures.measure_testing import check_measure, draw_table

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


@pytest.mark.parametrize("measure", [*all_measures().values(), OWN], ids=lambda each: each.name)
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


def offer(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Installs an entry point."""
    point = EntryPoint(name="own", value=value, group=registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    monkeypatch.setattr(registry, "all_measures", registry.all_measures.__wrapped__)


def test_a_package_may_bring_a_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.measures.measure_testing.OWN", OWN, raising=False)
    offer(monkeypatch, "engine.measures.measure_testing:OWN")
    (measure,) = find_measures(["longest_output"])
    assert measure is OWN
    assert "longest_output" in compute_measures(draw_table("pairs")).columns


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("no.such.package:X", "cannot be loaded"),
        ("engine.errors:NO_SUCH", "cannot be loaded"),
        ("engine.errors:InputError", "is no engine.measures.measure.Measure"),
        ("tests_own:PERPLEXITY", "called 'perplexity' already"),
    ],
)
def test_what_is_wrong_with_a_package_is_said(
    value: str, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value.startswith("tests_own"):
        perplexity = next(each for each in LIKELIHOOD_MEASURES if each.name == "perplexity")
        monkeypatch.setattr("engine.measures.measure_testing.OWN", perplexity, raising=False)
        value = "engine.measures.measure_testing:OWN"
    offer(monkeypatch, value)
    with pytest.raises(InputError, match=complaint):
        find_measures([])


def test_an_unknown_name_lists_the_valid_ones() -> None:
    with pytest.raises(InputError, match=r"called 'uncertain'; valid: .*perplexity.*, sample_bald"):
        find_measures(["uncertain"])
    with pytest.raises(InputError, match=r"computed from samples is called 'perplexity'; valid: o"):
        find_measures(["perplexity"], "samples")
