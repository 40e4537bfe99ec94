"""`jostle --help` must answer at once, which it cannot if it imports much."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = (
    "torch",
    "vllm",
    "transformers",
    "trl",
    "datasets",
    "polars",
    "altair",
    "vl_convert",
    "lm_eval",
)
MOST_MODULES = 600  # typer, pydantic and ours are 440; any further library of size goes beyond
COMMANDS = (
    "compare",
    "demo",
    "doctor",
    "eval",
    "eval-harness",
    "judge",
    "logprobs",
    "map",
    "measures",
    "publish",
    "race",
    "reload",
    "report",
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
print(json.dumps(sorted(sys.modules)))
"""


def _help(*arguments: str) -> tuple[str, set[str]]:
    """What the command prints, and the top-level modules it has imported by then."""
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, *arguments, "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    *shown, modules = done.stdout.splitlines()
    return "\n".join(shown), set(json.loads(modules))


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", [(), ("bench", "logprobs"), *((command,) for command in COMMANDS)]
)
def test_help_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    shown, modules = _help(*arguments)
    assert "Usage: " in shown
    assert "cli" in modules
    assert modules.isdisjoint(HEAVY)
    assert len(modules) < MOST_MODULES


def test_every_command_is_covered_here() -> None:
    from cli.main import app

    commands = [command for command in app.registered_commands if command.callback]
    names = {command.name or command.callback.__name__ for command in commands if command.callback}
    assert names == set(COMMANDS)
