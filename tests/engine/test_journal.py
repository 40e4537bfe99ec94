"""Journals lose no line, whoever else writes to them, and are not read whole to be opened."""

from __future__ import annotations

import threading
import tracemalloc
from pathlib import Path

import pytest

from engine.client.paraphrase_journal import ParaphraseJournal
from engine.errors import InputError
from engine.files import LineJournal
from engine.tasks import Record


class Line(Record):
    text: str


def texts(path: Path) -> list[str]:
    return [line.text for line in LineJournal(path, Line).records()]


@pytest.mark.parametrize(
    ("torn", "kept"),
    [
        (b"", []),
        (b'{"te', []),
        (b'{"text": "a"}\n', ["a"]),
        (b'{"text": "a"}\n{"text": "b"', ["a"]),
        (b'{"text": "a"}\n' + b"x" * 200_000, ["a"]),
    ],
)
def test_a_torn_last_line_is_cut_off(tmp_path: Path, torn: bytes, kept: list[str]) -> None:
    path = tmp_path / "new" / "journal.jsonl"
    path.parent.mkdir()
    path.write_bytes(torn)
    assert texts(path) == kept
    with LineJournal(path, Line) as journal:
        journal.append(Line(text="next"))
    assert texts(path) == [*kept, "next"]


def test_several_writers_lose_no_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with LineJournal(path, Line) as one, LineJournal(path, Line) as two:
        one.append(Line(text="one"))
        two.append(Line(text="two, and longer"))
        one.append(Line(text="three"))
        with LineJournal(path, Line) as late:
            one.append(Line(text="four"))
            late.append(Line(text="five"))
    assert texts(path) == ["one", "two, and longer", "three", "four", "five"]


def test_opening_does_not_cut_what_another_is_writing(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    writers = [LineJournal(path, Line) for _ in range(4)]
    start = threading.Barrier(len(writers))

    def write(number: int) -> None:
        start.wait()
        for index in range(25):
            with writers[number] as journal:
                journal.append(Line(text=f"{number}/{index}"))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(len(writers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {f"{number}/{index}" for number in range(len(writers)) for index in range(25)}
    assert set(texts(path)) == expected


def test_what_could_not_be_written_leaves_the_lines_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.jsonl"

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with LineJournal(path, Line) as one, LineJournal(path, Line) as two:
        two.append(Line(text="theirs"))
        with monkeypatch.context() as patched:
            patched.setattr("engine.files.os.fsync", full)
            with pytest.raises(InputError, match="No space left on device; nothing is lost"):
                one.append(Line(text="ours"))
        two.append(Line(text="theirs again"))
    assert texts(path) == ["theirs", "theirs again"]


@pytest.mark.parametrize("end", [b"\n", b"\n" + b"y" * 300_000])
def test_a_large_journal_is_opened_without_being_read(tmp_path: Path, end: bytes) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"x" * 8_000_000 + end)
    tracemalloc.start()
    with LineJournal(path, Line):
        _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 500_000
    assert path.stat().st_size == 8_000_001


def test_paraphrases_of_others_are_seen_and_the_first_counts(tmp_path: Path) -> None:
    path = tmp_path / "paraphrases.jsonl"
    with ParaphraseJournal(path) as one, ParaphraseJournal(path) as two:
        one.append("a", "say", "tell")
        assert two.get("a") == "tell"
        two.append("b", "say", "speak")
        one.append("b", "say", "utter")
        assert one.get("b") == two.get("b") == "speak"
    with ParaphraseJournal(path) as again:
        assert again.get("b") == "speak"
