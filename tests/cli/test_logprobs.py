"""`jostle logprobs` against a server that answers by the texts alone."""

from __future__ import annotations

import io
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.training.pair_files.pair_server import PairServer, pair_server
from training.pair_files.file_scoring import FileScoring, LogprobFiles
from training.pair_files.pair_file import PairFiles
from training.pair_files.result_file import RESULT_COLUMNS, TOKEN_COLUMNS
from training.pair_files.scored_pairs import PairJournal


@pytest.fixture
def server() -> Iterator[PairServer]:
    with pair_server() as running:
        yield running


def rows_of(n: int) -> list[dict[str, Any]]:
    return [
        {"id": n, "prompt": f"What is {n % 7}?", "completion": f" it is {n}", "kind": "ab"[n % 2]}
        for n in range(n)
    ]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_come_out_in_order_with_all_their_columns(
    tmp_path: Path, jostle: Any, server: PairServer
) -> None:
    rows = rows_of(700)
    given, out = write_rows(tmp_path / "in.jsonl", rows), tmp_path / "out.parquet"
    code, said = jostle("logprobs", given, "-o", out, "--url", server.url)
    assert code == 0, said
    table = pl.read_parquet(out)
    assert table.select("id", "prompt", "completion", "kind").to_dicts() == rows
    assert table["mean_logprob"].to_list() == (table["logprob"] / table["n_tokens"]).to_list()
    assert set(server.asked.values()) == {1}
    assert "700 rows, 700 pairs, 2,100 tokens" in said
    assert "\N{CHECK MARK} score " in said
    assert not (tmp_path / "out.journal.jsonl").exists()


def test_pairs_that_share_a_prompt_are_asked_side_by_side(
    tmp_path: Path, jostle: Any, server: PairServer
) -> None:
    given = write_rows(tmp_path / "in.jsonl", rows_of(200))
    jostle("logprobs", given, "-o", tmp_path / "out.jsonl", "--url", server.url)
    prompts = [pair["prompt"] for body in server.bodies for pair in body["pairs"]]
    assert prompts == sorted(prompts)


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet", ".json"])
def test_every_kind_of_file_gives_the_same(
    tmp_path: Path, jostle: Any, server: PairServer, ending: str
) -> None:
    rows = rows_of(20)
    given = tmp_path / f"in{ending}"
    table = pl.DataFrame(rows)
    if ending == ".parquet":
        table.write_parquet(given)
    elif ending == ".json":
        given.write_text(json.dumps(rows))
    else:
        table.write_csv(given, separator="\t" if ending == ".tsv" else ",")
    code, said = jostle("logprobs", given, "-o", tmp_path / "out.jsonl", "--url", server.url)
    assert code == 0, said
    lines = write_rows(tmp_path / "in.jsonl", rows)
    jostle("logprobs", lines, "-o", tmp_path / "other.jsonl", "--url", server.url)
    ours, others = read_rows(tmp_path / "out.jsonl"), read_rows(tmp_path / "other.jsonl")
    assert [row["logprob"] for row in ours] == [row["logprob"] for row in others]


def test_a_data_set(tmp_path: Path, jostle: Any, server: PairServer) -> None:
    datasets = pytest.importorskip("datasets")
    rows = rows_of(5)
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "set")
    out = tmp_path / "out.parquet"
    code, said = jostle("logprobs", tmp_path / "set", "-o", out, "--url", server.url)
    assert code == 0, said
    assert pl.read_parquet(out).select("id", "prompt", "completion", "kind").to_dicts() == rows


def test_lists_of_completions_and_values_of_tokens(
    tmp_path: Path, jostle: Any, server: PairServer
) -> None:
    rows: list[dict[str, Any]] = [{"prompt": "Q", "completions": ["one", "one two"]}]
    given = write_rows(tmp_path / "in.jsonl", rows)
    for ending in ("jsonl", "parquet"):
        out = tmp_path / f"out.{ending}"
        code, said = jostle("logprobs", given, "-o", out, "--tokens", "--url", server.url)
        assert code == 0, said
        (row,) = read_rows(out) if ending == "jsonl" else pl.read_parquet(out).to_dicts()
        assert row["n_tokens"] == [1, 2]
        assert row["token_texts"] == [["one"], ["one", "two"]]


def test_values_of_tokens(tmp_path: Path, jostle: Any, server: PairServer) -> None:
    given, out = write_rows(tmp_path / "in.jsonl", rows_of(1)), tmp_path / "out.jsonl"
    code, said = jostle("logprobs", given, "-o", out, "--tokens", "--url", server.url)
    assert code == 0, said
    (row,) = read_rows(out)
    assert list(row)[4:] == [*RESULT_COLUMNS, *TOKEN_COLUMNS]
    assert row["token_texts"] == ["it", "is", "0"]


def test_a_file_of_the_folder_that_is_read_is_no_output(tmp_path: Path, jostle: Any) -> None:
    write_rows(tmp_path / "a.jsonl", rows_of(1))
    given = write_rows(tmp_path / "b.jsonl", rows_of(2))
    code, said = jostle("logprobs", tmp_path, "-o", given, "--overwrite")
    assert code == 2, said
    assert "is read by the same command" in said
    assert read_rows(given) == rows_of(2)


def test_conversations(tmp_path: Path, jostle: Any, server: PairServer) -> None:
    messages = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A b"}]
    given = write_rows(tmp_path / "in.jsonl", [{"messages": messages}])
    out = tmp_path / "out.parquet"
    code, said = jostle("logprobs", given, "-o", out, "--url", server.url)
    assert code == 0, said
    (row,) = pl.read_parquet(out).to_dicts()
    assert row["messages"] == messages
    assert row["n_tokens"] == 2


def test_standard_input(
    tmp_path: Path, jostle: Any, server: PairServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = write_rows(tmp_path / "in.jsonl", rows_of(5)).read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    code, said = jostle("logprobs", "-", "-o", tmp_path / "out.jsonl", "--url", server.url)
    assert code == 0, said
    assert [row["id"] for row in read_rows(tmp_path / "out.jsonl")] == [0, 1, 2, 3, 4]
    assert not list(tmp_path.glob("*.stdin.*"))


def test_perplexity_of_files_and_groups(tmp_path: Path, jostle: Any, server: PairServer) -> None:
    one = write_rows(tmp_path / "one.jsonl", rows_of(6))
    two = write_rows(tmp_path / "two.jsonl", rows_of(2))
    out = tmp_path / "out.parquet"
    options = ("--perplexity", "--group", "kind", "--url", server.url)
    code, said = jostle("logprobs", one, two, "-o", out, *options)
    assert code == 0, said
    table = pl.read_parquet(out)
    loss = -sum(table["logprob"].to_list()) / sum(table["n_tokens"].to_list())
    expected = math.exp(loss)
    assert f"perplexity {expected:.4f}  all: 8 pairs, 24 tokens" in said
    assert f"file {two}: 2 pairs, 6 tokens" in said
    assert "kind a: 4 pairs, 12 tokens" in said


def test_faulty_rows_are_left_out_and_listed(
    tmp_path: Path, jostle: Any, server: PairServer
) -> None:
    rows = rows_of(4)
    rows[1]["completion"] = None
    rows[2]["completion"] = "FAULTY"
    given, out = write_rows(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    given.write_text(given.read_text() + "{broken\n")
    code, said = jostle("logprobs", given, "-o", out, "--skip-faulty", "--url", server.url)
    assert code == 0, said
    assert [row["id"] for row in read_rows(out)] == [0, 3]
    skipped = read_rows(tmp_path / "out.jsonl.skipped.jsonl")
    assert [(each["record"], each["field"]) for each in skipped] == [
        ("line 2", "completion"),
        ("line 3", "completion"),
        ("line 5", None),
    ]
    assert skipped[1]["reason"] == "its tokens merge with the prompt's"
    assert "3 record(s) left out" in said


def test_a_row_with_two_faults_is_one_that_was_left_out(
    tmp_path: Path, jostle: Any, server: PairServer
) -> None:
    rows = [{"prompt": "Q", "completions": each} for each in (["FAULTY", "FAULTY too"], ["fine"])]
    given, out = write_rows(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    code, said = jostle("logprobs", given, "-o", out, "--skip-faulty", "--url", server.url)
    assert code == 0, said
    assert len(read_rows(tmp_path / "out.jsonl.skipped.jsonl")) == 2
    assert "1 rows, 1 pairs, 1 tokens" in said
    assert "1 record(s) left out" in said


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"completion": "FAULTY"}, "line 3, field 'completion': its tokens merge"),
        ({"prompt": "LONG"}, "line 3, field 'prompt': the pair has 4,000 tokens"),
        ({"completion": "NAN"}, "line 3: the engine gave nan as log-probability"),
        ({"completion": None}, "line 3, field 'completion': null"),
        ({"completion": " "}, "line 3, field 'completion': only white space"),
    ],
)
def test_a_fault_names_file_row_and_field_in_a_line(
    tmp_path: Path, jostle: Any, server: PairServer, values: dict[str, Any], said: str
) -> None:
    rows = rows_of(4)
    rows[2] |= values
    given = write_rows(tmp_path / "in.jsonl", rows)
    code, shown = jostle("logprobs", given, "-o", tmp_path / "out.jsonl", "--url", server.url)
    assert code != 0
    (line,) = (line for line in shown.splitlines() if "error" in line)
    assert f"in.jsonl, record {said}" in line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("-o", "out.txt"), "must end in .parquet or .jsonl"),
        (("-o", "out.jsonl", "--column", "answer=x"), "roles: prompt, completion, messages"),
        (("-o", "out.jsonl", "--boundary", "none"), "boundary"),
        (("-o", "out.jsonl", "--group", "kind"), "goes with --perplexity"),
        (("-o", "out.jsonl", "--perplexity", "--group", "no"), "no column 'no'"),
        (("-o", "out.jsonl", "--split", "test"), "only data sets have splits"),
    ],
)
def test_wrong_options(
    tmp_path: Path,
    jostle: Any,
    server: PairServer,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "in.jsonl", rows_of(2))
    code, shown = jostle("logprobs", "in.jsonl", *options, "--url", server.url)
    assert (code, said in shown) == (2, True), shown


def test_columns_of_several_kinds_fit_jsonl_only(
    tmp_path: Path, jostle: Any, server: PairServer
) -> None:
    rows = [row | {"extra": extra} for row, extra in zip(rows_of(2), ("a", 1), strict=True)]
    given = write_rows(tmp_path / "in.jsonl", rows)
    code, shown = jostle("logprobs", given, "-o", tmp_path / "out.parquet", "--url", server.url)
    assert code == 2
    assert "field 'extra': fits no column of a .parquet file" in shown
    code, _ = jostle("logprobs", given, "-o", tmp_path / "out.jsonl", "--url", server.url)
    assert code == 0
    assert [row["extra"] for row in read_rows(tmp_path / "out.jsonl")] == ["a", 1]


def test_a_parquet_file_keeps_its_types(tmp_path: Path, jostle: Any, server: PairServer) -> None:
    large = pl.Series([2**63 + 5, 1], dtype=pl.UInt64)
    day = pl.Series([date(2026, 1, 2), None])
    given = tmp_path / "in.parquet"
    at = pl.Series([datetime(2026, 1, 2, microsecond=3), None], dtype=pl.Datetime("ns"))
    table = pl.DataFrame(rows_of(2)).with_columns(large=large, day=day, at=at, blob=pl.lit(b"x"))
    table.write_parquet(given)
    out = tmp_path / "out.parquet"
    code, said = jostle("logprobs", given, "-o", out, "--url", server.url)
    assert code == 0, said
    assert pl.read_parquet(out).select(table.columns).equals(table)
    assert "nanoseconds are cut to microseconds in at\n" in said
    code, said = jostle("logprobs", given, "-o", tmp_path / "out.jsonl", "--url", server.url)
    assert code == 2
    assert "record row 1: cannot be spelled as JSON, write .parquet instead (found bytes)" in said
    assert len(server.bodies) == 1


def test_integers_that_another_file_has_no_room_for_are_told_before_anything_is_scored(
    tmp_path: Path, jostle: Any, server: PairServer
) -> None:
    for name, n in (("a.parquet", 2**53 + 1), ("b.parquet", 0.5)):
        pl.DataFrame(rows_of(1)).with_columns(n=pl.lit(n)).write_parquet(tmp_path / name)
    given, out = (tmp_path / "a.parquet", tmp_path / "b.parquet"), tmp_path / "out.parquet"
    code, said = jostle("logprobs", *given, "-o", out, "--url", server.url)
    assert code == 2
    assert "b.parquet, field 'n': fits no column of a .parquet file" in said
    assert not server.bodies


def test_what_json_cannot_spell_is_told_before_anything_is_scored(
    tmp_path: Path, jostle: Any, server: PairServer
) -> None:
    given = write_rows(tmp_path / "in.jsonl", [*rows_of(1), rows_of(1)[0] | {"score": math.nan}])
    code, said = jostle("logprobs", given, "-o", tmp_path / "out.jsonl", "--url", server.url)
    assert code == 2
    assert "in.jsonl, record line 2: cannot be spelled as JSON, write .parquet instead" in said
    assert not server.bodies


def test_a_column_of_ours_in_the_input_is_refused(
    tmp_path: Path, jostle: Any, server: PairServer
) -> None:
    first = write_rows(tmp_path / "first.jsonl", rows_of(1))
    given = write_rows(tmp_path / "in.jsonl", [rows_of(1)[0] | {"logprob": 1}])
    out = tmp_path / "out.jsonl"
    code, shown = jostle("logprobs", first, given, "-o", out, "--url", server.url)
    assert code == 2
    assert f"{given}, field 'logprob': has the name of a column of the output" in shown


def test_an_engine_that_dies_leaves_its_work_to_the_other(
    tmp_path: Path, jostle: Any, server: PairServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.client.wire.UNSUPERVISED_PATIENCE_S", 0.3)
    given, out = write_rows(tmp_path / "in.jsonl", rows_of(2_000)), tmp_path / "out.jsonl"
    with pair_server() as other:
        other.dies_after = 100
        code, said = jostle("logprobs", given, "-o", out, "--url", server.url, "--url", other.url)
        assert code == 0, said
        assert other.asked
        assert server.asked
    assert [row["id"] for row in read_rows(out)] == list(range(2_000))


def test_engines_with_other_weights_are_refused(
    tmp_path: Path, jostle: Any, server: PairServer
) -> None:
    given = write_rows(tmp_path / "in.jsonl", rows_of(2))
    out = tmp_path / "out.jsonl"
    with pair_server() as other:
        other.version = "v2"
        code, said = jostle("logprobs", given, "-o", out, "--url", server.url, "--url", other.url)
    assert code == 2
    assert "serves something else" in said


@pytest.mark.parametrize("change", ["weights", "rows", "encoding"])
def test_what_broke_off_is_not_gone_on_with_after_a_change(
    tmp_path: Path, jostle: Any, server: PairServer, change: str
) -> None:
    rows = rows_of(3)
    rows[2]["completion"] = "NAN"
    given, out = write_rows(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    assert jostle("logprobs", given, "-o", out, "--url", server.url)[0] == 1
    options: tuple[str, ...] = ()
    if change == "weights":
        server.version = "v2"
    elif change == "rows":
        write_rows(given, rows_of(3))
    else:
        options = ("--boundary", "separate")
    code, said = jostle("logprobs", given, "-o", out, "--url", server.url, *options)
    assert code == 2
    assert "--overwrite starts anew" in said


@pytest.mark.parametrize("step", [(PairFiles, "survey"), (FileScoring, "ask")])
@pytest.mark.parametrize("rows", [[3, 0, 1, 2], [0, 1], [0, 1, 2, 3]])
def test_a_file_that_changes_under_way_gives_no_output(
    tmp_path: Path,
    jostle: Any,
    server: PairServer,
    monkeypatch: pytest.MonkeyPatch,
    step: tuple[type, str],
    rows: list[int],
) -> None:
    given, out = write_rows(tmp_path / "in.jsonl", rows_of(3)), tmp_path / "out.jsonl"
    done = getattr(*step)

    def then_change(*args: Any, **named: Any) -> Any:
        found = done(*args, **named)
        write_rows(given, [rows_of(4)[n] for n in rows])
        return found

    monkeypatch.setattr(*step, then_change)
    code, said = jostle("logprobs", given, "-o", out, "--url", server.url)
    assert code == 2
    assert "in.jsonl: changed while it was read; --overwrite scores it anew" in said
    assert not out.exists()
    assert (tmp_path / "out.jsonl.journal.jsonl").exists()


def kill_one_that_stalls(given: Path, out: Path, server: PairServer, after: int) -> set[int]:
    """The pairs that the journal holds when it is killed after so many answers."""
    journal = PairJournal(LogprobFiles(out).journal)

    def known() -> set[int]:
        return {number for batch in journal.records() for number in batch.numbers()}

    expected = len(known()) + after
    server.stalls_after = server.asked.total() + after
    command = [sys.executable, "-m", "cli.main", "logprobs", given, "-o", out, "--url", server.url]
    process = subprocess.Popen([str(word) for word in command], stderr=subprocess.DEVNULL)
    while len(known()) < expected:
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    server.stalls_after = None
    time.sleep(0.2)  # what the killed one has asked is answered into the void
    return known()


@pytest.mark.slow
def test_killed_it_goes_on_without_a_pair_lost_or_one_of_the_journal_asked_again(
    tmp_path: Path, jostle: Any, server: PairServer
) -> None:
    rows = rows_of(2_000)
    given, out = write_rows(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    done: set[int] = set()
    for after in (1_000, 700):
        before = server.asked.copy()
        known = kill_one_that_stalls(given, out, server, after)
        assert known > done
        asked_again = server.asked - before
        assert not {number for number in done if asked_again[text_of(rows[number])]}
        done = known
    before = server.asked.copy()
    code, _ = jostle("logprobs", given, "-o", out, "--url", server.url)
    assert code == 0
    assert (server.asked - before).total() == len(rows) - len(done)
    undisturbed = tmp_path / "undisturbed.jsonl"
    assert jostle("logprobs", given, "-o", undisturbed, "--url", server.url)[0] == 0
    assert undisturbed.read_bytes() == out.read_bytes()


def text_of(row: dict[str, Any]) -> str:
    return f"{row['prompt']}|{row['completion']}"
