"""Columns that fit no Parquet file are told, as early as that can be seen."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
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
    assert str(seen(*values).schema().field("n").type) == kind


def test_what_does_not_fit_in_the_end_names_its_column(tmp_path: Path) -> None:
    kept = KeptColumns(typed=True)
    kept.see(Row("in.parquet", "row 1", 1, {"n": 0.5}), pa.schema([("n", pa.float64())]))
    out = tmp_path / "out.parquet"
    results = ResultFile(out, Survey(1, 1, "", kept, several=False), tokens=False)
    with (
        pytest.raises(InputError, match=r"fits no column of a .parquet file") as told,
        results.opened() as write,
    ):
        write({"n": LARGE, "logprob": -1.0})
    assert (told.value.file, told.value.field) == ("in.parquet", "n")
    assert not list(tmp_path.iterdir())


def of_files(*columns: tuple[Any, Any]) -> KeptColumns:
    """Columns of files with one row each: its value, and the type that the file tells or none."""
    kept = KeptColumns(typed=True)
    for number, (value, kind) in enumerate(columns, start=1):
        schema = None if kind is None else pa.schema([("n", kind)])
        kept.see(Row(f"{number}.parquet", "row 1", 1, {"n": value}), schema)
    return kept


@pytest.mark.parametrize("order", [list, reversed])
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((LARGE, pa.int64()), (0.5, pa.float64())),
        ((LARGE, pa.int64()), (0.5, None)),
        (([{"in": LARGE}], pa.large_list(pa.struct([("in", pa.int64())]))), ([{"in": 0.5}], None)),
        ((2**63, pa.uint64()), (-1, pa.int64())),
        ((Decimal("1.25"), pa.decimal128(10, 2)), (0.5, pa.float64())),
        ((datetime(2300, 1, 1), pa.timestamp("ms")), (datetime(2026, 1, 1), pa.timestamp("ns"))),
    ],
)
def test_values_that_do_not_fit_the_types_of_other_files_are_told(
    one: Any, other: Any, order: Any
) -> None:
    with pytest.raises(InputError, match=r"fits no column of a .parquet file") as told:
        of_files(*order([one, other])).schema()
    assert (told.value.file, told.value.field) == ("2.parquet", "n")


def test_values_that_fit_the_types_of_other_files_are_kept() -> None:
    kept = of_files((2**53, pa.int64()), (None, pa.int64()), (0.5, pa.float64()))
    assert kept.schema().field("n").type == pa.float64()
    assert of_files((2**63 - 1, pa.uint64()), (-1, pa.int64())).schema().field("n").type == "int64"


def test_a_column_that_another_file_lacks_may_be_empty_though_its_own_file_requires_it(
    tmp_path: Path,
) -> None:
    inner = pa.field("in", pa.int64(), nullable=False)
    within = pa.field("s", pa.list_(pa.struct([inner])), nullable=False)
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False), within])
    kept = KeptColumns(typed=True)
    kept.see(Row("a.parquet", "row 1", 1, {"id": 1, "s": [{"in": 2}]}), schema)
    kept.see(Row("b.jsonl", "line 1", 1, {"s": [{"other": 3}]}), None)
    values = {"id": [1, None], "s": [[{"in": 2}], [{"other": 3}]]}
    table = pa.table(values, schema=kept.schema())
    pq.write_table(table, tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet")["id"].to_pylist() == [1, None]


@pytest.mark.parametrize("name", ["\ud83d", "logprob", "no_fields"])
def test_a_fault_names_the_file_that_has_the_column(name: str, tmp_path: Path) -> None:
    def try_all() -> None:
        kept = KeptColumns(typed=True)
        for file, values in (("1.jsonl", {"n": 1}), ("2.jsonl", {name: {}}), ("3.jsonl", {"n": 1})):
            kept.see(Row(file, "line 1", 1, values))
        survey = Survey(3, 3, "", kept, several=False)
        ResultFile(tmp_path / "out.parquet", survey, tokens=False)

    with pytest.raises(InputError) as told:
        try_all()
    assert (told.value.file, told.value.field) == ("2.jsonl", name)
