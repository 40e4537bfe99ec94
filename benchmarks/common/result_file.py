"""What all benchmarks write: the table they print, and figures with machine, versions and date."""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from engine.bench.machine_facts import this_machine
from engine.files import write_json

RESULTS = Path(__file__).parent.parent / "results"


class ResultFile:
    """One result, under the name of its script, as text and as JSON.

    Args:
        name: Of the files.
        folder: Where they go.
        width: Columns of the text.

    Attributes:
        console: What is printed there is the text.
    """

    def __init__(self, name: str, folder: Path = RESULTS, width: int = 120) -> None:
        self.console = Console(width=width, record=True)
        self._file = folder / name

    def print(self, text: str) -> None:
        """A line of the text."""
        self.console.print(text, highlight=False)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table whose first column is text and whose others are numbers."""
        table = Table(title=title)
        for number, column in enumerate(columns):
            table.add_column(column, justify="right" if number else "left")
        for row in rows:
            table.add_row(*row)
        self.console.print(table)

    def save(self, figures: Mapping[str, Any], settings: argparse.Namespace | None = None) -> None:
        """Writes both files.

        Args:
            figures: What was found, by name.
            settings: The options of the script.
        """
        self._file.parent.mkdir(exist_ok=True)
        self._file.with_suffix(".txt").write_text(self.console.export_text())
        chosen = vars(settings) if settings else {}
        # Folders of this machine say nothing to others.
        paths = {f"--{name}" for name, value in chosen.items() if isinstance(value, Path)}
        given = [
            each
            for before, each in pairwise(["", *sys.argv[1:]])
            if not paths.intersection((before, each))
        ]
        found = {
            "benchmark": self._file.name,
            "command": " ".join([f"python -m benchmarks.{Path(sys.argv[0]).stem}", *given]),
            "settings": {key: each for key, each in chosen.items() if f"--{key}" not in paths},
            "date": datetime.date.today().isoformat(),
            "machine": this_machine().model_dump(mode="json"),
            "figures": dict(figures),
        }
        write_json(self._file.with_suffix(".json"), found)
