"""The run folder: the contract that other steps and other tools read.

    runs/NAME/config.resolved.toml, tasks.json, state.json, before.json, report.html
    runs/NAME/run.lock (who works on it), progress.json (how far the current step is)
    runs/NAME/random/, the same run with its tasks drawn at random (`jostle demo`)
    runs/NAME/round-00/scores.parquet, pairs.parquet, selection.json, metrics.json, checkpoint/
    runs/NAME/round-00/skipped.jsonl, tasks at which the engine failed, with `pool.skip_faulty`
    runs/NAME/round-00/race.json, where the round was scored by a race
    runs/NAME/round-00/TABLE.parquet, where the measure asks a question (samples, labels, ...)

Every file is written beside itself, synced and renamed into place, so a reader never sees a part
of one. `scores.journal.jsonl` (`race.journal.jsonl` of a race) is the exception: it grows by whole
lines, and a torn last line does not count.
"""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from engine.errors import InputError
from engine.files import read_json
from training.selection import Selection
from training.tables.question_tables import question_files


class RunFolder:
    """Paths of a run.

    Args:
        path: The folder; made when a record is first written.
    """

    def __init__(self, path: Path) -> None:
        path = path.resolve()
        self.path = path
        self.config = path / "config.resolved.toml"
        self.state = path / "state.json"
        self.tasks = path / "tasks.json"
        self.before = path / "before.json"
        self.lock = path / "run.lock"
        self.progress = path / "progress.json"
        self.report = path / "report.html"
        self.engine_log = path / "engine.log"
        self.skipped = path / "skipped.jsonl"
        self.paraphrases = path / "paraphrases.jsonl"
        self.beside = path / "random"

    def round(self, index: int) -> RoundFolder:
        """Paths of one round; 0 is the first."""
        return RoundFolder(self.path / f"round-{index:02d}", index)

    def rounds(self) -> list[RoundFolder]:
        """The rounds that have a folder, in order."""
        names = [re.fullmatch(r"round-(\d{2,})", path.name) for path in self.path.glob("round-*")]
        return [self.round(index) for index in sorted(int(m[1]) for m in names if m)]

    def trained_tasks(self, up_to: int) -> tuple[str, ...]:
        """Ids of all tasks selected in the rounds before `up_to`, in order of selection."""
        rounds = [self.round(index) for index in range(up_to)]
        return tuple(task_id for each in rounds for task_id in each.read_selection().task_ids)


class RoundFolder:
    """Paths of a round.

    Args:
        index: The round; 0 is the first.
    """

    def __init__(self, path: Path, index: int) -> None:
        self.path = path
        self.index = index
        self.journal = path / "scores.journal.jsonl"
        self.race = path / "race.json"
        self.race_journal = path / "race.journal.jsonl"
        self.skipped = path / "skipped.jsonl"
        self.scores = path / "scores.parquet"
        self.pairs = path / "pairs.parquet"
        self.questions = question_files(lambda table: path / f"{table}.parquet")
        self.selection = path / "selection.json"
        self.metrics = path / "metrics.json"
        self.checkpoint = path / "checkpoint"
        self.training = path / "training"

    def read_selection(self) -> Selection:
        """What `selection.json` says; `InputError` when it is missing or broken."""
        return read_json(self.selection, Selection)

    def read_scores(self) -> pl.DataFrame:
        """`scores.parquet`; `InputError` when it is missing."""
        if not self.scores.is_file():
            raise InputError("the file is missing", file=self.scores)
        return pl.read_parquet(self.scores, glob=False)
