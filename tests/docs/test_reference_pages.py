"""The page of commands says how an option is switched off, and which variable sets it."""

from __future__ import annotations

import pytest

from docs.reference_pages import command_page


@pytest.fixture(scope="module")
def page() -> list[str]:
    return "\n".join(command_page()).splitlines()


@pytest.mark.parametrize(
    ("names", "default"),
    [
        ("`--special-tokens`, `--no-special-tokens`", "True"),
        ("`--official`, `--no-official`", "True"),
        ("`--debug`", "`JOSTLE_DEBUG`"),
        ("`--api-key`", "`JOSTLE_JUDGE_API_KEY`"),
    ],
)
def test_an_option_has_all_its_names(page: list[str], names: str, default: str) -> None:
    assert any(row.startswith(f"| {names} |") and row.endswith(f"| {default} |") for row in page)


def test_a_table_that_stands_above_is_not_written_again(page: list[str]) -> None:
    told = [row for row in page if row.startswith("Its options are those of ")]
    assert told == 4 * ["Its options are those of [jostle bench logprobs](#jostle-bench-logprobs)."]
