"""Files are there whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.errors import InputError
from engine.files import is_part, replacing, write_bytes, write_json

_WRITE_AND_HANG = """
import sys, time
from pathlib import Path
from engine.files import replacing
with replacing(Path(sys.argv[1])) as part:
    part.write_text("half")
    print("written", flush=True)
    time.sleep(3600)
"""


def test_a_file_is_replaced_when_the_block_is_through(tmp_path: Path) -> None:
    path = tmp_path / "new" / "table.png"
    with replacing(path) as part:
        assert part.parent == path.parent
        assert part.suffix == ".png"  # some writers go by it
        part.write_bytes(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_fails_leaves_the_old_file(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "state.json"
    write_json(path, {"a": 1})
    before = path.read_bytes()

    def write_half() -> None:
        with replacing(path) as part:
            part.write_bytes(b"half")
            raise error

    with pytest.raises(InputError if isinstance(error, OSError) else KeyboardInterrupt):
        write_half()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/x: cannot be written: File exists"):
        write_bytes(tmp_path / "file" / "x", b"")


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})
    assert path.read_text() == '{\n  "a": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_write_is_told_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITE_AND_HANG, str(path)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.communicate()
    (left,) = tmp_path.iterdir()
    assert is_part(left)
    assert str(process.pid) in left.name
    assert not is_part(path)
    assert not is_part(tmp_path / f".gitignore.{os.getpid()}")
    write_bytes(path, b"whole")
    assert path.read_bytes() == b"whole"
