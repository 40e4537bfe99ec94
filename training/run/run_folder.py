"""The run folder: the contract that other steps and other tools read.

    runs/NAME/config.resolved.toml, tasks.json, state.json, before.json, task_map.png
    runs/NAME/run.lock (who works on it), progress.json (how far the current step is)
    runs/NAME/round-00/scores.parquet, pairs.parquet, selection.json, metrics.json, checkpoint/
    runs/NAME/round-00/race.json, where the round was scored by a race
    runs/NAME/round-00/samples.parquet or labels.parquet, where the measure needs more than pairs

Every file is written beside itself, synced and renamed into place, so a reader never sees a part
of one. `scores.journal.jsonl` (`race.journal.jsonl` of a race) is the exception: it grows by whole
lines, and a torn last line does not count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from engine.errors import InputError
from engine.files import LineJournal
from engine.protocol.api import PairScore, TaskScore
from training.selection import Selection
from training.tables.further_tables import FURTHER
from training.tables.record_files import read_json as read_json
from training.tables.record_files import write_parquet as write_parquet

SCORE_COLUMNS: dict[str, Any] = {
    "task_id": pl.String,
    "prompt_uncertainty": pl.Float64,
    "standard_error": pl.Float64,
    "prediction_probability": pl.Float64,
    "perplexity": pl.Float64,
    "n_instances": pl.Int64,
    "n_perturbations": pl.Int64,
    "map_category": pl.String,
    "selected": pl.Boolean,
    "weights_version": pl.String,
}
"""Columns of `scores.parquet`, in order. `selected` is null until the selection has been made.

`standard_error` is that of prompt uncertainty, over repeats with other instances and perturbations.
Behind them stand further measurements (`training.tables.further_tables`), `ranking_estimate` and
`ranking_error` (`engine.design.ranking_columns`); after a race all that an
`engine.design.entries.Standing` says, and the other measures of its pairs.
"""

PAIR_COLUMNS: dict[str, Any] = {
    "task_id": pl.String,
    "instance_id": pl.String,
    "perturbation": pl.Int64,
    "n_tokens": pl.Int64,
    "logprob": pl.Float64,
    "probability": pl.Float64,
    "weights_version": pl.String,
    "n_prompt_tokens": pl.Int64,
}
"""Columns of `pairs.parquet`, in order."""


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
        self.task_map = path / "task_map.png"
        self.engine_log = path / "engine.log"
        self.skipped = path / "skipped.jsonl"
        self.paraphrases = path / "paraphrases.jsonl"

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
        path: The folder.
        index: The round; 0 is the first.
    """

    def __init__(self, path: Path, index: int) -> None:
        self.path = path
        self.index = index
        self.journal = path / "scores.journal.jsonl"
        self.race = path / "race.json"
        self.race_journal = path / "race.journal.jsonl"
        self.scores = path / "scores.parquet"
        self.pairs = path / "pairs.parquet"
        self.further = {each.name: path / f"{each.name}.parquet" for each in FURTHER.values()}
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
        return pl.read_parquet(self.scores)


class ScoreJournal(LineJournal[TaskScore]):
    """Finished task scores, one JSON line each, synced as they come.

    Use as a context manager to append; `read` works at any time.

    Args:
        path: The journal file.
        weights_version: Lines of any other version are not part of this scoring.
    """

    def __init__(self, path: Path, weights_version: str) -> None:
        super().__init__(path, TaskScore)
        self.weights_version = weights_version

    def read(self) -> dict[str, TaskScore]:
        """Finished scores by task id; a torn last line is ignored.

        Raises:
            InputError: If a line other than the last is broken.
        """
        return {score.task_id: score for score in self.scores()}

    def scores(self) -> Iterator[TaskScore]:
        """Finished scores, one at a time, each task's once; a torn last line is ignored.

        Raises:
            InputError: If a line other than the last is broken, or a task has two scores that are
                not equal.
        """
        seen: dict[str, int] = {}
        for score in self.records():
            if score.weights_version != self.weights_version:
                continue
            content = hash(score.model_dump_json(exclude={"usage"}))
            if score.task_id not in seen:
                seen[score.task_id] = content
                yield score
            elif seen[score.task_id] != content:
                problem = "has two scores, and they differ"
                raise InputError(problem, file=self.path, record=score.task_id)


def pair_table(tasks: Iterable[tuple[str, Iterable[PairScore], str]]) -> pl.DataFrame:
    """A frame of pairs.

    Args:
        tasks: Of each its id, its pairs and the version of the weights.
    """
    rows = [
        {"task_id": task_id, **pair.model_dump(), "weights_version": version}
        for task_id, pairs, version in tasks
        for pair in pairs
    ]
    return pl.DataFrame(rows, schema=PAIR_COLUMNS)
