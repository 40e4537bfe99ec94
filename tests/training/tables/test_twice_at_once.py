"""One scoring, and one race, at a time into a file; what two have written is told apart."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from engine.errors import InputError
from engine.pools import open_pool
from engine.protocol.api import SkippedTask, TaskScore, Usage
from engine.protocol.score_config import ScoreConfig
from engine.tasks import Task
from tests.engine.weights.served import live
from tests.training.fakes import make_score
from tests.training.tables.test_score_tables import Engine
from training.pair_files.file_scoring import LogprobFiles
from training.tables.overwriting import AskedOf
from training.tables.pool_racing import RaceFiles
from training.tables.pool_scoring import ScoreFiles, score_pool, survey_pool
from training.tables.score_journal import ScoreJournal

CONFIG = ScoreConfig(n_instances=1, n_perturbations=2)


def score(pool: Path, output: Path, engine: Engine) -> None:
    opened, files = open_pool(str(pool)), ScoreFiles(output)
    with files.claim():
        score_pool(opened, survey_pool(opened, CONFIG), engine, CONFIG, files)


class Meanwhile(Engine):
    """Somebody starts the same scoring when the first task is scored."""

    def __init__(self, again: Callable[[], None]) -> None:
        self.again = again

    def score(
        self,
        tasks: Iterable[Task],
        config: ScoreConfig,
        on_skip: Callable[[SkippedTask], None] | None = None,
    ) -> Iterator[TaskScore]:
        for number, each in enumerate(super().score(tasks, config)):
            yield each
            if number == 0:
                self.again()


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("overwrite", [True, False])
def test_files_of_a_race_are_not_those_of_another(
    tmp_path: Path, finished: bool, overwrite: bool
) -> None:
    one, other = RaceFiles(tmp_path / "top.txt"), RaceFiles(tmp_path / "top.ids")
    (one.selected if finished else one.journal).touch()
    one.begin(AskedOf(weights=live("v1")))
    before = one.settings.read_bytes()
    with pytest.raises(InputError, match=r"is that of top.txt; give top.ids another name"):
        other.claim(overwrite=overwrite).__enter__()
    assert one.settings.read_bytes() == before
    one.selected.unlink(missing_ok=True)
    one.journal.unlink(missing_ok=True)
    with other.claim(overwrite=overwrite):
        other.begin(AskedOf(weights=live("v2")))


def test_outputs_of_one_stem_share_nothing(tmp_path: Path) -> None:
    scores, lines = ScoreFiles(tmp_path / "s.parquet"), LogprobFiles(tmp_path / "s.jsonl")
    ours, others = (
        {each for each in vars(files).values() if isinstance(each, Path)}
        for files in (scores, lines)
    )
    assert not ours & others


def test_a_second_scoring_of_the_same_is_refused_and_told_who_is_at_it(tmp_path: Path) -> None:
    pool, output = tmp_path / "pool.jsonl", tmp_path / "s.parquet"
    pool.write_text(
        '{"id": "a", "definition": "say color", "instances": [{"id": "1", "input": "sky"}]}\n'
        '{"id": "b", "definition": "say taste", "instances": [{"id": "1", "input": "pie"}]}\n'
    )

    def again() -> None:
        with pytest.raises(InputError, match=rf"works on this scoring: process {os.getpid()} on"):
            score(pool, output, Engine())

    score(pool, output, Meanwhile(again))
    journal = ScoreJournal(output.with_suffix(".journal.jsonl"), "base")
    assert len(list(journal.records())) == 2


@pytest.mark.parametrize("overwrite", [False, True])
def test_whoever_is_at_a_race_keeps_its_files(tmp_path: Path, overwrite: bool) -> None:
    files = RaceFiles(tmp_path / "top.txt")
    with files.claim():
        files.journal.write_text("kept")
        with (
            pytest.raises(InputError, match=r"top.txt: another process works on this race"),
            RaceFiles(tmp_path / "top.txt").claim(overwrite=overwrite),
        ):
            pass
        assert files.journal.read_text() == "kept"
    files.selected.write_text("kept")
    with files.claim(overwrite=True):
        # Until an engine has answered, all that is there stays.
        assert files.journal.exists()
        files.begin(AskedOf(weights=live("v0")))
        assert not files.journal.exists()
        assert not files.selected.exists()


def test_equal_scores_of_a_task_count_once_and_different_ones_are_refused(tmp_path: Path) -> None:
    first, second = make_score("a", 0.5), make_score("b", 0.2)
    with ScoreJournal(tmp_path / "journal", "base") as journal:
        for each in (first, second, first.model_copy(update={"usage": Usage(pairs=3)})):
            journal.append(each)
        assert list(journal.scores()) == [first, second]
        journal.append(make_score("a", 0.4))
        with pytest.raises(InputError, match=r"record a: has two scores, and they differ"):
            list(journal.scores())
