"""The commands of the README that score files run as they stand there."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.pair_files.pair_server import pair_server

README = Path(__file__).parents[2] / "README.md"
COMMANDS = re.findall(r"^(?:cat \S+ \| )?jostle logprobs [^#\n]*", README.read_text(), re.MULTILINE)


def test_there_are_some() -> None:
    assert len(COMMANDS) >= 3


@pytest.mark.parametrize("command", COMMANDS)
def test_it_runs(tmp_path: Path, command: str) -> None:
    pair = {"prompt": "Q", "completion": " a b", "source": "web"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pair) + "\n")
    (tmp_path / "quiz.csv").write_text("question,answer\nWhich?,this one\n")
    program = shlex.join([sys.executable, "-m", "cli.main"])
    with pair_server() as server:
        done = subprocess.run(
            f"{command.replace('jostle', program, 1).strip()} --url {server.url}",
            shell=True,
            cwd=tmp_path,
            env={"PYTHONPATH": str(README.parent), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    (scored,) = tmp_path.glob("scored.*[lt]")
    assert f"{scored.name}: 1 rows, 1 pairs, 2 tokens" in done.stdout
