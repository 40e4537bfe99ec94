"""What goes wrong outside: one clear error each, and nothing is lost."""

from __future__ import annotations

import json
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from engine.client.paraphrase_journal import ParaphraseJournal
from engine.errors import InputError
from engine.files import write_json
from tests.training.fakes import FakeEngine, KilledError, make_score
from tests.training.run.test_rounds import CONFIG, make_run, read_records
from training.run.run_folder import RunFolder
from training.run.state import RunStep
from training.tables.score_journal import ScoreJournal
from training.tables.table_files import write_parquet


@contextmanager
def largest_file(n_bytes: int) -> Iterator[None]:
    """As a full disk: the system refuses to let a file grow beyond a size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_json(path, {"a": 1})
    with largest_file(64), pytest.raises(InputError, match=r"state.json: cannot be written: "):
        write_json(path, {"a": "x" * 100_000})
    assert json.loads(path.read_text()) == {"a": 1}
    table = tmp_path / "scores.parquet"
    with largest_file(64), pytest.raises(InputError, match=r"scores.parquet: cannot be written"):
        write_parquet(table, pl.DataFrame({"a": range(10_000)}))
    assert [each.name for each in tmp_path.iterdir()] == ["state.json"]


def test_a_full_disk_cuts_no_journal_line(tmp_path: Path) -> None:
    path = tmp_path / "scores.journal.jsonl"
    with ScoreJournal(path, "base") as journal:
        journal.append(make_score("task-0", 0.1))
        with largest_file(path.stat().st_size + 50), pytest.raises(InputError, match="written"):
            journal.append(make_score("task-1", 0.2))
        assert [each.task_id for each in ScoreJournal(path, "base").scores()] == ["task-0"]
        journal.append(make_score("task-1", 0.2))
    assert [each.task_id for each in ScoreJournal(path, "base").scores()] == ["task-0", "task-1"]


def test_a_full_disk_cuts_no_paraphrase(tmp_path: Path) -> None:
    path = tmp_path / "paraphrases.jsonl"
    with ParaphraseJournal(path) as journal:
        journal.append("a", "text", "other")
        with largest_file(path.stat().st_size + 5), pytest.raises(InputError, match="written"):
            journal.append("b", "text", "third")
        assert journal.get("b") is None
        journal.append("b", "text", "fourth")
    with ParaphraseJournal(path) as journal:
        assert (journal.get("a"), journal.get("b")) == ("other", "fourth")


def test_a_run_on_a_full_disk_goes_on_when_there_is_room(tmp_path: Path) -> None:
    make_run(tmp_path / "undisturbed").run()
    with largest_file(3_000), pytest.raises(InputError, match="nothing is lost"):
        make_run(tmp_path / "full").run()
    make_run(tmp_path / "full").run()
    assert read_records(tmp_path / "full") == read_records(tmp_path / "undisturbed")


@pytest.mark.parametrize("missing", ["manifest.json", "."])
def test_an_unreadable_checkpoint_is_told_before_the_engine_is_asked(
    tmp_path: Path, missing: str
) -> None:
    with pytest.raises(KilledError):
        make_run(tmp_path, die_at=("begin", 0, RunStep.RELOAD)).run()
    checkpoint = RunFolder(tmp_path).round(0).checkpoint
    away = tmp_path / "away"
    shutil.move(checkpoint / missing, away)
    engine = FakeEngine()
    with pytest.raises(InputError, match=r"checkpoint.*manifest.json"):
        make_run(tmp_path, engine).run()
    assert not [event for event in engine.events if event.startswith("load")]
    shutil.move(away, checkpoint / missing)
    make_run(tmp_path).run()


def test_a_manifest_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        make_run(tmp_path, die_at=("begin", 0, RunStep.RELOAD)).run()
    manifest = RunFolder(tmp_path).round(0).checkpoint / "manifest.json"
    content = manifest.read_bytes()
    manifest.unlink()
    manifest.write_text("{")
    with pytest.raises(InputError, match=r"manifest.json"):
        make_run(tmp_path).run()
    manifest.write_bytes(content)
    make_run(tmp_path).run()


def test_changed_tasks_and_config_are_named(tmp_path: Path) -> None:
    make_run(tmp_path)
    with pytest.raises(InputError, match="pool: task-4, task-5 are missing"):
        make_run(tmp_path, pool_size=4)
    select = CONFIG.select.model_copy(update={"n_tasks": 1})
    with pytest.raises(InputError, match=r"select.n_tasks: 2 -> 1"):
        make_run(tmp_path, config=CONFIG.model_copy(update={"select": select}))
