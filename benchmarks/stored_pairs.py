"""The stored pairs of a large design, and measurements drawn from them instead of an engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.design.components import MeanSquares, Moves
from engine.design.costs import TaskCost
from engine.design.overlap import top
from engine.design.race import Race, RaceConfig, Runner

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class StoredTask:
    """One task's pairs.

    Attributes:
        task_id: The task.
        category: Its kind.
        moves: |p(i, j) - p(i, 0)|, shape (instances, perturbations).
        probability: Mean of p(i, 0).
        cost: Means of the stored lengths.
    """

    task_id: str
    category: str
    moves: Moves
    probability: float
    cost: TaskCost


def load(file: Path) -> list[StoredTask]:
    """The tasks of a file of `benchmarks.reference_pairs`, in its order."""
    tasks = []
    for frame in pl.read_parquet(file).partition_by("task_id", maintain_order=True):
        ordered = frame.sort("instance", "perturbation")
        shape = (frame["instance"].n_unique(), frame["perturbation"].n_unique())
        p = ordered["probability"].to_numpy().astype(np.float64).reshape(shape)
        tail = (
            ordered["tail_tokens"].cast(pl.Int64) + ordered["n_tokens"].cast(pl.Int64) - 1
        ).mean()
        prefix = ordered["prefix_tokens"].cast(pl.Int64).mean()
        tasks.append(
            StoredTask(
                task_id=str(frame["task_id"][0]),
                category=str(frame["category"][0]),
                moves=np.abs(p[:, 1:] - p[:, :1]),
                probability=float(p[:, 0].mean()),
                cost=TaskCost(float(str(prefix)), float(str(tail))),
            )
        )
    return tasks


class Draw:
    """A seeded order of every task's instances and perturbations; designs take the first ones."""

    def __init__(self, tasks: list[StoredTask], seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.tasks = tasks
        self._moves = {
            task.task_id: task.moves[rng.permutation(task.moves.shape[0])][
                :, rng.permutation(task.moves.shape[1])
            ]
            for task in tasks
        }

    def moves(self, task_id: str, n: int, k: int, *, last: bool = False) -> Moves:
        """The first n instances and k perturbations, or the last ones: a disjoint repeat."""
        moves = self._moves[task_id]
        return moves[-n:, -k:] if last else moves[:n, :k]

    def uniform(self, n: int, k: int, *, last: bool = False) -> list[Moves]:
        """The tables of all tasks under one design."""
        return [self.moves(task.task_id, n, k, last=last) for task in self.tasks]

    def race(self, config: RaceConfig) -> tuple[Race, list[tuple[float, NDArray[np.int64]]]]:
        """Runs a race; it, and the tokens spent and the selection after each batch."""
        runners = [Runner(task.task_id, task.cost, task.moves.shape[0]) for task in self.tasks]
        race = Race(runners, config)
        history = []
        while batch := race.next_batch():
            for step in batch:
                race.tell(
                    step.task_id, self.moves(step.task_id, step.n_instances, step.n_perturbations)
                )
            u = np.array([standing.prompt_uncertainty for standing in race.standings()])
            history.append((race.tokens, top(u, config.n_select)))
        return race, history


def values(tables: list[Moves]) -> Floats:
    """Prompt uncertainty of each table."""
    return np.array([MeanSquares.of(table).mean for table in tables])
