"""A run on a file system that is full: real processes, stand-in model, a real file system."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.training.run.test_kills import Engine, engine, write_run
from tests.training.run.test_rounds import read_records

pytestmark = pytest.mark.slow

__all__ = ["engine"]  # the fixture

SIZE = 4 << 20
PAGE = 4096


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a file system is not permitted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path, n_free: int) -> Path:
    """Fills the file system up to some bytes; the file that does."""
    ballast = folder / "ballast"
    ballast.unlink(missing_ok=True)
    statistics = os.statvfs(folder)
    free = statistics.f_bavail * statistics.f_frsize
    with ballast.open("wb") as stream:
        stream.write(b"\0" * max(0, free - n_free))
    return ballast


def test_a_run_that_fills_its_disk_goes_on_when_there_is_room(
    tmp_path: Path, disk: Path, engine: Engine
) -> None:
    config = write_run(tmp_path, engine.port, n_tasks=8, n_held_out=2)

    def run(folder: Path) -> subprocess.CompletedProcess[str]:
        engine.ensure()
        return subprocess.run(
            [sys.executable, "-m", "cli.main", "run", str(config), "--run-dir", str(folder)],
            capture_output=True,
            text=True,
        )

    assert run(tmp_path / "undisturbed").returncode == 0
    expected = read_records(tmp_path / "undisturbed")
    assert engine.process is not None
    engine.process.kill()  # a new run needs the base model
    engine.process.wait()

    errors: set[str] = set()
    n_free = 0
    while True:
        ballast = fill(disk, n_free)
        found = run(disk / "run")
        ballast.unlink()
        if found.returncode == 0:
            break
        assert found.returncode in (1, 2), found.stderr
        assert "Traceback" not in found.stderr
        assert found.stderr.count("jostle: error: ") == 1
        errors.add(found.stderr)
        n_free = max(4 * PAGE, n_free * 5 // 3)  # each start gets further than the one before
    assert len(errors) > 3, errors
    assert all("no space left" in each.lower() for each in errors), errors
    assert read_records(disk / "run") == expected
