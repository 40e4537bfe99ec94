"""Rows become tasks by a column: in order, mixed, through files, from tables and data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from engine.errors import InputError
from engine.pools import PoolOptions, open_pool
from engine.pools.grouping import Grouping
from engine.pools.options import Columns
from engine.pools.rows import RowReader
from engine.pools.writing import write_pool
from engine.tasks import Task
from tests.engine.pools.test_formats import found, read, write

ROWS = [
    {"kind": kind, "instruction": f"Do {kind}.", "input": f"{kind}{n}", "output": str(n)}
    for kind, n in (("a", 0), ("b", 0), ("a", 1), ("c", 0), ("b", 1), ("a", 2))
]
BY_KIND = Columns(task="kind")


def tasks_of(path: Path | str, **options: Any) -> dict[str, list[tuple[str, str]]]:
    """Id of each task, with id and input of each instance."""
    opened = open_pool(path, PoolOptions(columns=BY_KIND, **options))
    return {task.id: [(one.id, one.input) for one in task.instances] for task in opened}


EXPECTED = {
    "a": [("a-0", "a0"), ("a-1", "a1"), ("a-2", "a2")],
    "b": [("b-0", "b0"), ("b-1", "b1")],
    "c": [("c-0", "c0")],
}


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows.parquet", "set"])
def test_rows_of_a_task_need_not_be_neighbours(name: str, tmp_path: Path) -> None:
    if name in ("rows.jsonl", "rows.json"):
        write(tmp_path, name, ROWS)
    elif name == "rows.csv":
        pl.DataFrame(ROWS).write_csv(tmp_path / name)
    elif name == "rows.parquet":
        pl.DataFrame(ROWS).write_parquet(tmp_path / name)
    else:
        import datasets  # type: ignore[import-untyped]

        datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / name)
    assert tasks_of(tmp_path / name) == EXPECTED


def test_what_is_too_large_to_hold_goes_through_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "rows.jsonl", ROWS)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setattr("engine.pools.grouping._BUCKET_BYTES", 40)
    assert tasks_of(path) == EXPECTED
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("bucket", [40, 1 << 20])
@pytest.mark.parametrize("rows", [ROWS[:3], [*ROWS, ROWS[0] | {"kind": "d"}], [*ROWS, ROWS[0]]])
def test_rows_that_change_between_the_two_readings_are_told(
    bucket: int, rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.pools.grouping._BUCKET_BYTES", bucket)
    path, survey = write(tmp_path, "rows.jsonl", ROWS), Grouping._survey

    def then_change(grouping: Grouping, read: RowReader) -> Any:
        surveyed = survey(grouping, read)
        write(tmp_path, "rows.jsonl", rows)
        return surveyed

    monkeypatch.setattr(Grouping, "_survey", then_change)
    with pytest.raises(InputError, match=r"rows.jsonl.*: changed while it was read"):
        tasks_of(path)


@pytest.mark.parametrize("bucket", [40, 1 << 20])
def test_bytes_are_no_text_however_large_the_pool_is(
    bucket: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.pools.grouping._BUCKET_BYTES", bucket)
    path = tmp_path / "rows.parquet"
    pl.DataFrame([row | {"output": b"x"} for row in ROWS]).write_parquet(path)
    faults, _, n_tasks = found(path, columns=BY_KIND)
    assert n_tasks == 0
    assert len(faults) == len(ROWS)
    assert all("expected a text or a list of texts, found a bytes" in told for told in faults)


@pytest.mark.parametrize("bucket", [40, 1 << 20])
def test_a_sample_of_each_task_is_that_of_scoring(
    bucket: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.pools.grouping._BUCKET_BYTES", bucket)
    path = write(tmp_path, "rows.jsonl", ROWS)
    for seed in range(3):
        few = tasks_of(path, max_instances=2, seed=seed)
        whole = {task.id: task for task in open_pool(path, PoolOptions(columns=BY_KIND))}
        assert few == {
            name: [(one.id, one.input) for one in task.sample_instances(2, seed)]
            for name, task in whole.items()
        }


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"kind": None}, "record line 3, field 'kind': missing"),
        ({"kind": "a\0b"}, "record line 3, field 'kind': an id must not hold a line break"),
        (
            {"instruction": "Do more."},
            "record line 3, field 'definition': differs from that of line 1, same task",
        ),
        (
            {"category": "x"},
            "record line 3, field 'category': differs from that of line 1, same task",
        ),
        ({"output": 3}, "record line 3, field 'output': expected a text or a list of texts"),
    ],
)
def test_a_row_that_does_not_belong(change: dict[str, Any], fault: str, tmp_path: Path) -> None:
    rows = [*ROWS]
    rows[2] = rows[2] | change
    path = write(tmp_path, "rows.jsonl", rows)
    faults, _, n_tasks = found(path, columns=BY_KIND)
    assert [told.startswith(fault) for told in faults] == [True], faults
    assert n_tasks == 3, "the other rows are in order"


def test_two_rows_of_a_task_have_one_id(tmp_path: Path) -> None:
    rows = [row | {"id": "same"} for row in ROWS]
    faults, _, n_tasks = found(write(tmp_path, "rows.jsonl", rows), columns=BY_KIND)
    assert n_tasks == 3
    assert len(faults) == 3
    assert all("'same' is also the id of another row of its task" in told for told in faults)


def test_columns_of_any_name(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("Frage,Antwort,Gruppe,Art\nWie?,So.,x,Prosa\nWo?,Da.,x,Prosa\n")
    columns = Columns(input="Frage", output="Antwort", task="Gruppe", category="Art")
    (told,) = found(path, columns=columns, format="prompt_completion")[0]
    assert told == (
        "field 'columns.definition': rows that are grouped into tasks need a definition; name the "
        "column that holds it, one of Frage, Antwort, Gruppe, Art"
    )
    alone = Columns(input="Frage", output="Antwort", category="Art")
    assert read(path, columns=alone, format="prompt_completion") == [
        ("Wie?", "", ("So.",)),
        ("Wo?", "", ("Da.",)),
    ]
    (first, _) = open_pool(path, PoolOptions(columns=alone, format="prompt_completion"))
    assert isinstance(first, Task)
    assert (first.id, first.category) == ("rows-2", "Prosa"), "by its line"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "field 'split': name a split: test, train"),
        ({"split": "dev"}, "field 'split': no split 'dev'; there are: test, train"),
    ],
)
def test_a_data_set_with_splits(options: dict[str, str], message: str, tmp_path: Path) -> None:
    import datasets

    whole = datasets.Dataset.from_list(ROWS)
    folder = tmp_path / "set"
    datasets.DatasetDict(train=whole, test=whole.select([0])).save_to_disk(folder)
    with pytest.raises(InputError) as caught:
        open_pool(folder, PoolOptions(columns=BY_KIND, **options))
    assert message in str(caught.value)
    assert tasks_of(folder, split="train") == EXPECTED
    assert tasks_of(folder, split="test") == {"a": [("a-0", "a0")]}


def test_a_data_set_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[tuple[str, str | None]] = []

    def load(name: str, subset: str | None) -> Any:
        asked.append((name, subset))
        return datasets.DatasetDict(train=datasets.Dataset.from_list(ROWS))

    monkeypatch.setattr("engine.pools.tables.ask_hub", lambda *_: "there")
    monkeypatch.setattr("datasets.load_dataset", load)
    assert tasks_of("hub:some/set", subset="small") == EXPECTED, "its only split needs no name"
    assert asked == [("some/set", "small")]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_what_is_written_is_read_back(ending: str, tmp_path: Path) -> None:
    pool = open_pool(write(tmp_path, "rows.jsonl", ROWS), PoolOptions(columns=BY_KIND))
    again = tmp_path / f"own.{ending}"
    assert write_pool(pool, again) == (3, 6)
    assert list(open_pool(again)) == list(pool)
