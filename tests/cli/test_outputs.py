"""One rule for all outputs: nothing is replaced unasked, and an input is never an output."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InputError
from engine.files import check_output
from training.selection.strategy_testing import draw_scores


@pytest.fixture
def work(tmp_path: Path, pool: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with scores, a pool and two sets of answers."""

    def no_engine(*_: object, **__: object) -> None:
        raise AssertionError("started an engine")

    monkeypatch.setattr("engine.process.engine_process.EngineProcess.start", no_engine)
    monkeypatch.setattr("engine.client.EngineClient.weights", no_engine)
    monkeypatch.chdir(tmp_path)
    draw_scores(5).write_parquet("s.parquet")
    pool.rename("pool.jsonl")
    (tmp_path / "link.parquet").symlink_to("s.parquet")
    for name in ("hard.jsonl", "hard.json"):
        (tmp_path / name).hardlink_to("pool.jsonl")
    (tmp_path / "answers.jsonl").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "outputs.jsonl").write_text("precious")
    (tmp_path / "precious.html").write_text("precious")
    (tmp_path / "precious.parquet").write_text("precious")
    (tmp_path / "precious.selection.json").write_text("precious")
    (tmp_path / "new.skipped.jsonl").write_text("task-0\n")
    for folder in ("rows", "weights", "run"):
        (tmp_path / folder).mkdir()
    shutil.copy("pool.jsonl", "rows/outputs.jsonl")
    (tmp_path / "weights" / "config.json").write_text("{}")
    (tmp_path / "run" / "state.json").write_text("{}")
    os.mkfifo("fifo.parquet")
    return tmp_path


POOL = "pool.jsonl"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("select", "s.parquet", "-n", 1, "-o", "s.parquet"), "is read by the same command"),
        (("select", "link.parquet", "-n", 1, "-o", "s.parquet"), "is read by the same command"),
        (("select", "s.parquet", "-n", 1, "-o", "precious.html"), "is there already; --overwrite"),
        (("select", "s.parquet", "-n", 1, "-o", "precious.txt"), "precious.selection.json: is th"),
        (("select", "s.parquet", "-n", 1, "-o", "folder"), "is a folder"),
        (("select", "s.parquet", "-n", 1, "-o", "no/s.txt"), "no: no such folder"),
        (("map", "s.parquet", "-o", "precious.html"), "is there already; --overwrite replaces it"),
        (("map", "s.parquet", "-o", "m.html", "--table", "link.parquet"), "is read by the same"),
        (("map", "s.parquet", "-o", "m.html", "--table", "precious.parquet"), "is there already"),
        (("map", "s.parquet", "-o", "m.html", "--table", "t.csv"), "must end in .parquet"),
        (("measures", "s.parquet", "-o", "s.parquet"), "is read by the same command"),
        (("measures", "s.parquet", "-o", "precious.parquet"), "is there already"),
        (("measures", "s.parquet", "-o", "m.csv"), "must end in .parquet"),
        (("measures", "s.parquet", "--into", "link.parquet"), "is read by the same command"),
        (("score", POOL, "-o", "precious.parquet"), "is there already"),
        (("score", POOL, "-o", "fifo.parquet", "--overwrite"), "is no regular file"),
        (("score", POOL, "-o", f"{'n' * 240}.parquet"), "the name is too long"),
        (("score", POOL, "-o", f"{'n' * 300}.parquet"), "File name too long"),
        (("race", POOL, "-n", 2, "--budget", 9, "-o", "hard.jsonl", "--overwrite"), "is read by"),
        (("race", POOL, "-n", 2, "--budget", 9, "-o", "folder", "--overwrite"), "is a folder"),
        (("pool", "convert", POOL, "hard.jsonl", "--overwrite"), "is read by the same command"),
        (("bench", "logprobs", "--pool", POOL, "-o", "hard.json", "--overwrite"), "is read by the"),
        (("bench", "samples", "--estimate", POOL, "-o", "hard.json", "--overwrite"), "is read by"),
        (("pool", "convert", POOL, "precious.parquet"), "is there already"),
        (("pool", "split", POOL, "precious.html", "--by", "task"), "is no folder"),
        (("config", "init", "precious.html"), "is there already"),
        (("config", "init", "folder", "--overwrite"), "is a folder"),
        (("eval", POOL, "--output", "done"), "outputs.jsonl: is there already"),
        (("eval", "rows", "--output", "rows", "--overwrite"), "lies in a folder that the same"),
        (("eval", "rows/outputs.jsonl", "--output", "rows", "--overwrite"), "is read by the same"),
        (("score", "rows", "-o", "rows/s.parquet"), "lies in a folder that the same command reads"),
        (("race", "rows", "-n", 1, "--budget", 9, "-o", "rows/s.txt"), "lies in a folder that"),
        (("pool", "convert", "rows", "rows/new.jsonl"), "lies in a folder that the same command"),
        (("pool", "convert", POOL, "new.jsonl", "--skip-faulty", "--overwrite", "--selected",
          "new.skipped.jsonl"), "is read by the same command"),
        (("pool", "split", "rows", "rows", "--by", "task", "--overwrite"), "lies in a folder that"),
        (("bench", "uncertainty", "--pool", "rows", "-o", "rows/b.json"), "lies in a folder that"),
        (("bench", "reload", "--checkpoint", "weights", "-o", "weights/config.json",
          "--overwrite"), "lies in a folder that the same"),
        (("report", "run", "-o", "run/state.json", "--overwrite"), "must end in .html"),
        (("map", "run", "-o", "run/state.json", "--overwrite"), "must end in .html, .png or .svg"),
        (("compare", "run", "-o", "run/state.json", "--overwrite"), "must end in .html, .png or"),
        (
            ("judge", "answers.jsonl", "s.parquet", "--url", "http://127.0.0.1:1/v1", "--model",
             "m", "--journal", "answers.jsonl"),
            "is read by the same command",
        ),
    ],
)  # fmt: skip
def test_no_command_replaces_what_is_there(
    words: tuple[str, ...], complaint: str, jostle: Any, work: Path
) -> None:
    def content() -> dict[str, bytes]:
        files = (path for path in work.rglob("*") if path.is_file())
        return {str(path): path.read_bytes() for path in files}

    before = content()
    code, shown = jostle(*words)
    assert code == 2, shown
    assert complaint in shown
    assert shown.removeprefix("20 tasks, 1,276 pairs\n").count("\n") == 1, shown
    assert content() == before


@pytest.mark.slow
def test_asked_to_it_replaces(jostle: Any, work: Path) -> None:
    for words in (
        ("select", "s.parquet", "-n", 1, "-o", "precious.txt"),
        ("map", "s.parquet", "-o", "precious.html"),
        ("config", "init", "precious.html"),
        ("pool", "convert", POOL, "precious.parquet"),
    ):
        code, shown = jostle(*words, "--overwrite")
        assert code == 0, shown
    assert (work / "precious.html").read_bytes() != b"precious"


def test_what_lies_beside_is_replaced_only_where_it_is_unfinished_work(
    jostle: Any, work: Path
) -> None:
    (work / "new.pairs.parquet").write_text("precious")
    code, shown = jostle("score", POOL, "-o", "new.parquet")
    assert code == 2
    assert "new.pairs.parquet: is there already; --overwrite replaces it" in shown
    assert not (work / "new.lock").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written to"):
        check_output(tmp_path / "x", overwrite=True)
    tmp_path.chmod(0o700)


def test_a_link_that_leads_nowhere_is_there(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("nowhere")
    with pytest.raises(InputError, match="is there already"):
        check_output(link, overwrite=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["", ".", "/", "..", "folder/.."])
def test_a_folder_by_another_name(name: str, jostle: Any, work: Path) -> None:
    for words in (
        ("select", "s.parquet", "-n", 1),
        ("race", POOL, "-n", 2, "--budget", 9_000),
    ):
        code, shown = jostle(*words, "-o", name)
        assert code == 2
        assert "is a folder" in shown
