"""The stored pairs of a large design, and measurements drawn from them instead of an engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.design.assisted import Estimates, Evidence, estimate, remaining
from engine.design.costs import TaskCost
from engine.design.entries import RaceConfig, Runner
from engine.design.extensions import Scored
from engine.design.measurement import Expectation, Measurement, shift
from engine.design.race_rules import Estimator, Race
from engine.questions.incidence import incidence
from engine.variance.analysis import Analysis, Moves

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class StoredTask:
    """One task's pairs.

    Attributes:
        task_id: The task.
        category: Its kind.
        moves: |p(i, j) - p(i, 0)|, shape (instances, perturbations).
        originals: p(i, 0), shape (instances,).
        n_tokens: Length of each instance's reference output.
        shifts: Those of its perturbations, see `engine.design.measurement.shift`.
        cost: Means of the stored lengths.
    """

    task_id: str
    category: str
    moves: Moves
    originals: Floats
    n_tokens: NDArray[np.int64]
    shifts: Floats
    cost: TaskCost

    def measured(
        self, rows: NDArray[np.int64], columns: NDArray[np.int64], scored: Scored | None = None
    ) -> Measurement:
        """What these instances and perturbations say, or some of their pairs."""
        moves = self.moves[np.ix_(rows, columns)]
        return Measurement.of_likelihoods(
            moves if scored is None else np.where(scored, moves, np.nan),
            self.originals[rows],
            [int(tokens) for tokens in self.n_tokens[rows]],
        )

    def runner(self, columns: NDArray[np.int64] | None = None) -> Runner:
        """The task as it enters a race that takes its perturbations in this order."""
        shifts = self.shifts if columns is None else self.shifts[columns]
        return Runner(self.task_id, self.cost, self.moves.shape[0], shifts=tuple(shifts.tolist()))


def by_task(file: Path) -> Iterator[tuple[pl.DataFrame, tuple[int, int]]]:
    """The pairs of each task, instance after instance; how many instances and prompts of each."""
    for frame in pl.read_parquet(file).partition_by("task_id", maintain_order=True):
        shape = (frame["instance"].n_unique(), frame["perturbation"].n_unique())
        yield frame.sort("instance", "perturbation"), shape


def load(file: Path) -> list[StoredTask]:
    """The tasks of a file of `benchmarks.reference_pairs`, in its order."""
    tasks = []
    for ordered, shape in by_task(file):
        p = ordered["probability"].to_numpy().astype(np.float64).reshape(shape)
        tail = (
            ordered["tail_tokens"].cast(pl.Int64) + ordered["n_tokens"].cast(pl.Int64) - 1
        ).mean()
        prefix = ordered["prefix_tokens"].cast(pl.Int64).mean()
        prompts = (ordered["prefix_tokens"] + ordered["tail_tokens"]).to_numpy().reshape(shape)
        lengths = prompts.mean(axis=0)
        tasks.append(
            StoredTask(
                task_id=str(ordered["task_id"][0]),
                category=str(ordered["category"][0]),
                moves=np.abs(p[:, 1:] - p[:, :1]),
                originals=p[:, 0],
                n_tokens=ordered["n_tokens"].to_numpy().astype(np.int64).reshape(shape)[:, 0],
                shifts=np.array([shift(each, lengths[0]) for each in lengths[1:].tolist()]),
                cost=TaskCost(float(str(prefix)), float(str(tail))),
            )
        )
    return tasks


class Draw:
    """A seeded order of every task's instances and perturbations; designs take the first ones."""

    def __init__(self, tasks: list[StoredTask], seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.tasks = tasks
        self._orders = {
            task.task_id: (
                rng.permutation(task.moves.shape[0]),
                rng.permutation(task.moves.shape[1]),
            )
            for task in tasks
        }

    def measured(self, task: StoredTask, scored: Scored, *, last: bool = False) -> Measurement:
        """Pairs of the first instances and perturbations, or of the last: a disjoint repeat."""
        rows, columns = self._orders[task.task_id]
        n, k = scored.shape
        chosen = (rows[-n:], columns[-k:]) if last else (rows[:n], columns[:k])
        return task.measured(*chosen, scored)

    def uniform(
        self, n: int, k: int, r: int | None = None, *, last: bool = False
    ) -> list[Measurement]:
        """What all tasks say under one design of r instances per perturbation, none: all n."""
        measured = []
        for task in self.tasks:
            scored = np.zeros((n, k), bool)
            for j, column in enumerate(incidence(task.task_id, n, k, r, seed=0)):
                scored[list(column), j] = True
            measured.append(self.measured(task, scored, last=last))
        return measured

    def race(
        self, config: RaceConfig, estimator: Estimator = estimate
    ) -> tuple[Race, list[tuple[float, NDArray[np.int64]]]]:
        """Runs a race; it, and the tokens spent and the selection after each batch."""
        by_id = {task.task_id: task for task in self.tasks}
        runners = [task.runner(self._orders[task.task_id][1]) for task in self.tasks]
        race = Race(runners, config, estimator)
        history = []
        while batch := race.next_batch():
            for step in batch:
                task = by_id[step.task_id]
                race.tell(step.task_id, self.measured(task, step.scored))
            history.append((race.tokens, np.flatnonzero(race.selected())))
        return race, history

    def assisted(self, measured: list[Measurement]) -> Floats:
        """Ranking estimates of tasks that were measured by one design, the first ones."""
        expected = []
        for task, each in zip(self.tasks, measured, strict=True):
            columns = self._orders[task.task_id][1]
            expected.append(Expectation.of(each, task.shifts[columns].tolist()))
        evidence = Evidence.of(
            [Analysis.of(each.moves) for each in measured],
            expected,
            [(float(task.moves.shape[0]), float(task.moves.shape[1])) for task in self.tasks],
        )
        return estimate(evidence).log_mean


def values(measured: list[Measurement]) -> Floats:
    """Plain prompt uncertainty of each task."""
    return np.array([np.nanmean(each.moves) for each in measured])


def informed(tasks: list[StoredTask]) -> Estimator:
    """Estimates by somebody who knows what a race must learn, from all stored pairs.

    Known are the regression on what theory expects, the variance that it leaves, and every task's
    variance components; not known is where a task lies about the regression.
    """
    everything = [
        task.measured(np.arange(task.moves.shape[0]), np.arange(task.moves.shape[1]))
        for task in tasks
    ]
    squares = [Analysis.of(each.moves) for each in everything]
    level = np.log([each.mean for each in squares])
    components = np.maximum(0.0, [each.estimates for each in squares])
    relative = components * np.exp(-2 * level)[:, None]
    expected = [
        Expectation.of(each, task.shifts.tolist()).whole
        for task, each in zip(tasks, everything, strict=True)
    ]
    design = np.column_stack([np.ones(len(tasks)), expected])
    beta = np.linalg.lstsq(design, level, rcond=None)[0]
    left = float(((level - design @ beta) ** 2).sum() / (len(tasks) - design.shape[1]))

    def estimator(evidence: Evidence, start: Floats | None) -> Estimates:
        prior = np.column_stack([np.ones(len(tasks)), evidence.expected]) @ beta
        now = prior if start is None else start
        tables = evidence.tables
        v = remaining(evidence, relative, tables.n, tables.k, tables.cells)
        error = np.sqrt(v)
        for _ in range(20):
            ratio = np.clip(tables.mean * np.exp(-now - evidence.exposure), 0.05, 20.0)
            noise = v / ratio
            trust = left / (left + noise)
            error = np.sqrt(trust * noise)
            new = prior + trust * (now + (ratio - 1) / ratio - prior)
            now = now + np.clip(new - now, -1.0, 1.0)
        return Estimates(now, error, relative)

    return estimator
