"""What `pyproject.toml` allows, what is pinned, and what is said of it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DIRECT = [Requirement(each) for each in PROJECT["dependencies"]]
PINS = {
    name: Version(version)
    for name, version in re.findall(
        r"^([\w.-]+)==([^ \n]+)", (ROOT / "requirements" / "cpu.txt").read_text(), re.MULTILINE
    )
}
YEAR = 2000


@pytest.mark.parametrize("requirement", DIRECT, ids=lambda each: each.name)
def test_bounds_are_the_pinned_minor_and_the_next_major(requirement: Requirement) -> None:
    pin = PINS[requirement.name]
    assert pin in requirement.specifier
    bounds = {each.operator: Version(each.version) for each in requirement.specifier}
    assert bounds[">="].release[:2] == pin.release[: len(bounds[">="].release)][:2]
    if 0 < pin.major < YEAR:
        assert bounds["<"] == Version(str(pin.major + 1))
    else:
        assert "<" not in bounds


def test_each_says_why_it_is_there() -> None:
    reasons = (ROOT / "requirements" / "README.md").read_text().partition("## Bounds")[0]
    extras = PROJECT["optional-dependencies"]
    named = [*DIRECT, *(Requirement(each) for group in extras.values() for each in group)]
    assert [each.name for each in named if f"`{each.name}`" not in reasons] == []
