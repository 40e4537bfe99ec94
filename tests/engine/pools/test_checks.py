from __future__ import annotations

import pytest

from engine.errors import InputError
from engine.pools.checks import count_records


@pytest.mark.parametrize(
    ("file", "records", "n_records"),
    [
        ("pool.jsonl", ["line 3", "line 3, instances[1]", "line 3, instances[2]", "line 4"], 2),
        ("pool/task7.json", [None, "task7", "Instances[0]", "Positive Examples[1]"], 1),
        ("pool.jsonl", ["task 1/a", "task 1/b", "task [2], instances[0]", "task [2]"], 3),
        (None, ["line 1", "line 2", "gsm8k[0]", "gsm8k[1]"], 4),
    ],
)
def test_faults_of_one_record_are_counted_once(
    file: str | None, records: list[str | None], n_records: int
) -> None:
    faults = [InputError("no good", file=file, record=record) for record in records]
    assert count_records(faults) == n_records
