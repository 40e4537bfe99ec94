"""Fixtures of the commands' tests."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from cli import main as cli_main


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """Self-Instruct seed tasks, realistic in form: 20 tasks, a task with markup among them."""
    path = tmp_path / "seed_tasks.jsonl"
    rows = [
        {
            "id": f"seed_task_{index}",
            "name": f"task {index}",
            "instruction": f"Say </script><b>which</b> of {index} things is blue & why.",
            "instances": [
                {"input": f"{n} things", "output": "yes" if n % 2 else "no"}
                for n in range(12 if index < 8 else 3)
            ],
            "is_classification": index < 8,
        }
        for index in range(20)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def jostle(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command line; its exit code and what it printed."""
    monkeypatch.setenv("JOSTLE_DEBUG", "0")
    monkeypatch.delenv("JOSTLE_DEBUG")

    def run(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["jostle", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli_main.main()
        shown = capsys.readouterr()
        return int(stop.value.code or 0), shown.out + shown.err

    return run
