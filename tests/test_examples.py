"""The example of a package with parts of one's own, installed and run as its reader would."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_a_package_of_one_s_own_is_found(tmp_path: Path) -> None:
    package, target = ROOT / "examples" / "own_parts", tmp_path / "installed"
    python, quiet = (sys.executable, "-m"), ("-q", "--no-deps", "--no-build-isolation")
    environment = os.environ | {"PYTHONPATH": f"{target}:{ROOT}"}
    for words in (
        ("pip", "install", *quiet, "--no-index", "--target", target, package),
        ("pytest", "-q", "-p", "no:cacheprovider", "--rootdir", package, package / "tests"),
    ):
        done = subprocess.run(
            [*python, *map(str, words)],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
