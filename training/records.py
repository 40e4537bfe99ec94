"""The run folder: the contract that other steps and other tools read.

    runs/NAME/config.resolved.toml, state.json, before.json, task_map.png
    runs/NAME/round-00/scores.parquet, pairs.parquet, selection.json, metrics.json, checkpoint/

Every file is written beside itself, synced and renamed into place, so a reader never sees a part
of one. `scores.journal.jsonl` is the exception: it grows by whole lines, and a torn last line does
not count.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
from pydantic import BaseModel, ValidationError

from engine.api import TaskScore
from engine.errors import InputError
from engine.measures import map_categories
from training.selection import Selection

_M = TypeVar("_M", bound=BaseModel)

SCORE_COLUMNS: dict[str, Any] = {
    "task_id": pl.String,
    "prompt_uncertainty": pl.Float64,
    "prediction_probability": pl.Float64,
    "perplexity": pl.Float64,
    "n_instances": pl.Int64,
    "n_perturbations": pl.Int64,
    "map_category": pl.String,
    "selected": pl.Boolean,
    "weights_version": pl.String,
}
"""Columns of `scores.parquet`, in order. `selected` is null until the selection has been made."""

PAIR_COLUMNS: dict[str, Any] = {
    "task_id": pl.String,
    "instance_id": pl.String,
    "perturbation": pl.Int64,
    "n_tokens": pl.Int64,
    "logprob": pl.Float64,
    "probability": pl.Float64,
    "weights_version": pl.String,
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
        self.before = path / "before.json"
        self.task_map = path / "task_map.png"
        self.engine_log = path / "engine.log"
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
        self.scores = path / "scores.parquet"
        self.pairs = path / "pairs.parquet"
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


class ScoreJournal:
    """Finished task scores, one JSON line each, synced as they come.

    Use as a context manager to append; `read` works at any time.

    Args:
        path: The journal file.
        weights_version: Lines of any other version are not part of this scoring.
    """

    def __init__(self, path: Path, weights_version: str) -> None:
        self.path = path
        self.weights_version = weights_version
        self._stream: Any = None

    def read(self) -> dict[str, TaskScore]:
        """Finished scores by task id; a torn last line is ignored.

        Raises:
            InputError: If a line other than the last is broken.
        """
        return {score.task_id: score for score in self.scores()}

    def scores(self) -> Iterator[TaskScore]:
        """Finished scores, one at a time; a torn last line is ignored.

        Raises:
            InputError: If a line other than the last is broken.
        """
        if not self.path.is_file():
            return
        with self.path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if not line.endswith(b"\n"):
                    return
                try:
                    score = TaskScore.model_validate_json(line)
                except ValidationError as error:
                    problem = f"broken line: {error.errors()[0]['msg']}"
                    raise InputError(problem, file=self.path, record=f"line {number}") from error
                if score.weights_version == self.weights_version:
                    yield score

    def __enter__(self) -> ScoreJournal:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = self.path.open("ab")
        # Cut a torn last line off, so that the next one starts on a line of its own.
        whole = self.path.read_bytes().rfind(b"\n") + 1
        self._stream.truncate(whole)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stream.close()
        self._stream = None

    def append(self, score: TaskScore) -> None:
        """Add a finished score; it is on disk when this returns."""
        self._stream.write(score.model_dump_json().encode() + b"\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())


def build_scores(
    scores: Mapping[str, TaskScore], order: Iterable[str], selected: Iterable[str] | None = None
) -> pl.DataFrame:
    """The frame of `scores.parquet`.

    Args:
        scores: Finished scores by task id.
        order: Task ids in pool order; each must have a score.
        selected: Ids of the selected tasks; none when the selection has not been made.
    """
    chosen = None if selected is None else set(selected)
    rows = []
    for task_id in order:
        score = scores[task_id]
        row = {name: getattr(score, name) for name in SCORE_COLUMNS if hasattr(score, name)}
        rows.append(row | {"selected": None if chosen is None else task_id in chosen})
    frame = pl.DataFrame(rows, schema=SCORE_COLUMNS)
    return frame.with_columns(map_categories(frame).cast(pl.String).alias("map_category"))


def build_pairs(scores: Mapping[str, TaskScore], order: Iterable[str]) -> pl.DataFrame:
    """The frame of `pairs.parquet`: every pair of every task, in pool order."""
    rows = [
        {
            "task_id": task_id,
            **pair.model_dump(),
            "weights_version": scores[task_id].weights_version,
        }
        for task_id in order
        for pair in scores[task_id].pairs
    ]
    return pl.DataFrame(rows, schema=PAIR_COLUMNS)


def read_json(path: Path, model: type[_M]) -> _M:
    """A pydantic record from a JSON file.

    Raises:
        InputError: If the file is missing or does not follow the record's schema.
    """
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError("the file is missing", file=path) from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InputError(first["msg"], file=path, field=field or None) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file beside itself, sync it and rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)
    sync_folder(path.parent)


def write_json(path: Path, values: Any) -> None:
    """Write JSON atomically; NaN and infinity are refused (`ValueError`)."""
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, text.encode() + b"\n")


def write_parquet(path: Path, frame: pl.DataFrame) -> None:
    """Write a Parquet file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    frame.write_parquet(part)
    sync_file(part)
    part.replace(path)
    sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Make sure that a file's content is on disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def sync_folder(path: Path) -> None:
    """Make sure that a folder's entries (a rename in it) are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
