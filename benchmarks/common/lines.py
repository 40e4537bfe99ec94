"""Records of long measurements, a JSON line each; what was cut off is measured again."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The records of a file, if there is one."""
    records = []
    for line in file.read_text().splitlines() if file.exists() else ():
        with suppress(json.JSONDecodeError):
            records.append(json.loads(line))
    return records


def append_line(file: Path, record: dict[str, Any]) -> None:
    """Adds a record, on a line of its own whatever stands before."""
    file.parent.mkdir(parents=True, exist_ok=True)
    whole = not file.exists() or file.read_bytes()[-1:] in (b"", b"\n")
    with file.open("a") as lines:
        lines.write(f"{'' if whole else chr(10)}{json.dumps(record)}\n")
