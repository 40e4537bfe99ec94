"""What a terminal shows."""

from __future__ import annotations

import io

import pytest

from cli.terminal import fitted


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_on_a_terminal_break_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    path = "a-long/path/that-is-wider/than-the-terminal.json"
    text = f"name\n    one two three four five six seven\n{path}: no"
    assert fitted(text, Terminal(), " " * 6).splitlines() == [
        "name",
        "    one two three four five",
        "      six seven",
        f"{path}:",
        "      no",
    ]


def test_files_and_pipes_get_whole_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    text = "a line of more than thirty letters, as it is"
    assert fitted(text, io.StringIO()) == text
