"""`jostle --help` must answer at once, which it cannot if it imports the heavy libraries."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

HEAVY = ("torch", "vllm", "transformers", "trl", "datasets", "polars", "matplotlib")
COMMANDS = (
    "demo",
    "doctor",
    "eval",
    "judge",
    "map",
    "measures",
    "race",
    "reload",
    "run",
    "score",
    "select",
    "serve",
    "status",
    "strategies",
    "sweep",
    "train",
    "version",
)

_PROBE = """
import json, sys
from cli.main import app
# typer itself imports pydantic as soon as a subcommand has options to read; we must not before.
assert "pydantic" not in sys.modules
try:
    app(sys.argv[1:])
except SystemExit as stop:
    assert stop.code == 0, stop.code
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""


def _help(*arguments: str) -> tuple[str, set[str]]:
    """What the command prints, and the top-level modules it has imported by then."""
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, *arguments, "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    *shown, modules = done.stdout.splitlines()
    return "\n".join(shown), set(json.loads(modules))


@pytest.mark.parametrize("arguments", [(), *((command,) for command in COMMANDS)])
def test_help_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    shown, modules = _help(*arguments)
    assert "Usage: " in shown
    assert "cli" in modules
    assert modules.isdisjoint(HEAVY)


def test_every_command_is_covered_here() -> None:
    from cli.main import app

    commands = [command for command in app.registered_commands if command.callback]
    names = {command.name or command.callback.__name__ for command in commands if command.callback}
    assert names == set(COMMANDS)


def test_help_answers_in_under_a_second() -> None:
    seconds = []
    for _ in range(3):  # the best of three: the machine may be busy with other tests
        started = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "cli.main", "--help"],
            capture_output=True,
            check=True,
            timeout=60,
        )
        seconds.append(time.monotonic() - started)
    assert min(seconds) < 1.0
