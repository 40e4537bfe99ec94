"""Columns that fit no Parquet file are told, as early as that can be seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InputError
from engine.pools.rows import Row
from training.pair_files.kept_columns import KeptColumns
from training.pair_files.pair_file import Survey
from training.pair_files.result_file import ResultFile

LARGE = 2**53 + 1


def seen(*windows: Any) -> KeptColumns:
    """Columns with a value in so many rows as are typed at once, for each value."""
    kept = KeptColumns(typed=True)
    for value in windows:
        for _ in range(1_000):
            kept.see(Row("in.jsonl", "line 1", 1, {"n": value}))
    return kept


@pytest.mark.parametrize("values", [(LARGE, 0.5), (-LARGE, 1, 0.5), (0.5, LARGE)])
@pytest.mark.parametrize(
    "put",
    [lambda n: n, lambda n: {"in": n}, lambda n: [{"in": [None, n]}, None]],
    ids=["bare", "struct", "list"],
)
def test_integers_that_are_too_large_beside_fractions_are_told_when_they_are_seen(
    values: tuple[float, ...], put: Callable[[float], Any]
) -> None:
    with pytest.raises(
        InputError, match=r"fits no column of a .parquet file, write .jsonl"
    ) as told:
        seen(*map(put, values))
    assert (told.value.file, told.value.field) == ("in.jsonl", "n")


@pytest.mark.parametrize(("values", "kind"), [((LARGE, 1), "int64"), ((2**53, 0.5), "double")])
def test_others_are_kept(values: tuple[float, ...], kind: str) -> None:
    assert str(seen(*values).schema("in.jsonl").field("n").type) == kind


def test_what_does_not_fit_in_the_end_names_its_column(tmp_path: Path) -> None:
    import pyarrow as pa  # type: ignore[import-untyped]

    kept = KeptColumns(typed=True)
    kept.see(Row("in.parquet", "row 1", 1, {"n": 0.5}), pa.schema([("n", pa.float64())]))
    out = tmp_path / "out.parquet"
    results = ResultFile(out, Survey(1, 1, "", kept, several=False), "in.parquet", tokens=False)
    with (
        pytest.raises(InputError, match=r"fits no column of a .parquet file") as told,
        results.opened() as write,
    ):
        write({"n": LARGE, "logprob": -1.0})
    assert (told.value.file, told.value.field) == ("in.parquet", "n")
    assert not list(tmp_path.iterdir())
