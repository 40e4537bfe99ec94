"""Records of long measurements, a JSON line each; what was cut off is measured again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any


def read_lines(file: Path, key: str | None = None) -> list[dict[str, Any]]:
    """The records of a file, if there is one.

    Args:
        key: What the records that are to be added will have in common.

    Raises:
        SystemExit: If they are of several models, pools or configs, or of another than `key`.
    """
    records = []
    for line in file.read_text().splitlines() if file.exists() else ():
        with suppress(json.JSONDecodeError):
            records.append(json.loads(line))
    check_one_key(records if key is None else [*records, {"key": key}], file)
    return records


def check_one_key(records: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Raises SystemExit where records of another model, pool or config lie among these."""
    if len(keys := {record.get("key") for record in records}) > 1:
        raise SystemExit(
            f"{file} holds records of {len(keys)} models, pools or configs; move it away"
        )


def append_line(file: Path, record: dict[str, Any]) -> None:
    """Adds a record, on a line of its own whatever stands before."""
    file.parent.mkdir(parents=True, exist_ok=True)
    whole = not file.exists() or file.read_bytes()[-1:] in (b"", b"\n")
    with file.open("a") as lines:
        lines.write(f"{'' if whole else chr(10)}{json.dumps(record)}\n")
