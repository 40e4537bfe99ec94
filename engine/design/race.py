"""The race for the top N: pairs go where membership is still open, until a budget is spent.

A pure state machine: `next_batch` says which designs to extend, `tell` takes the tables in, and
neither knows where the pairs come from (a running engine, or stored pairs in a simulation).

Two rules say what to extend next; both end when nothing is open or the budget is spent.

`misplaced` (the default) gives work where a token removes most doubt: a task is on the wrong side
of the border with probability q = Phi(-|m - c| / d), where m and d are mean and deviation of its
posterior and c lies between the N-th and the next of all m; an extension is worth q times what
it takes off the logarithm of the variance, per computed token. Like the optimal computing budget
allocation for a subset (OCBA-m; Chen, He, Fu and Lee, 2008), it weighs a task's noise against its
distance from the border; unlike it, it knows that tasks and extensions differ in price.

`lucb` is LUCB (Kalyanakrishnan et al., 2012, *PAC subset selection in stochastic multi-armed
bandits*): members of the top N with the lowest lower ends, outsiders with the highest upper ends.

An extension is a block of columns (further perturbations of all the task's instances), of rows
(further instances under all its perturbations), or both, so that equal prefixes stay together and
the table stays whole. Several tasks are extended between two decisions, so that the engine stays
busy. Intervals are normal ones on moderated standard errors: empirical Bernstein intervals (Maurer
and Pontil, 2009), which the bounds [0, 1] would allow, hold for independent moves, which those of a
crossed design are not, and with ten of them they are wider than [0, 1] itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.design.border import judge, misplaced
from engine.design.components import Components, MeanSquares, Moves, Pooled
from engine.design.costs import TaskCost
from engine.errors import InputError
from engine.tasks import Record

Floats = NDArray[np.float64]


class RaceConfig(Record):
    """How a race is run.

    Attributes:
        n_select: How many tasks are wanted, of each stratum.
        budget: Computed tokens to spend at most, over all tasks.
        start_instances: Instances every task starts with.
        start_perturbations: Perturbations every task starts with.
        max_perturbations: Perturbations at most.
        batch: Tasks extended between two decisions.
        width: Half width of an interval, in standard errors.
        rule: What is extended next, see above.
        prefixes_kept: Whether the engine's cache holds all prefixes from one visit of a task to the
            next, so that further instances do not pay for them again.
    """

    n_select: int
    budget: float
    start_instances: int = 3
    start_perturbations: int = 2
    max_perturbations: int = 20
    batch: int = 4
    width: float = 2.0
    rule: Literal["misplaced", "lucb"] = "misplaced"
    prefixes_kept: bool = False


@dataclass(frozen=True, slots=True)
class Runner:
    """A task in the race.

    Attributes:
        task_id: The task.
        cost: What its pairs cost.
        max_instances: Instances it has.
        stratum: The group inside which it competes.
    """

    task_id: str
    cost: TaskCost
    max_instances: int
    stratum: str = ""


@dataclass(frozen=True, slots=True)
class Extension:
    """The design that a task is to have next, and what the step costs in computed tokens."""

    task_id: str
    n_instances: int
    n_perturbations: int
    tokens: float


class Standing(Record):
    """Where a task stands.

    Attributes:
        task_id: The task.
        selected: Whether it is among the top N of its stratum.
        is_open: Whether its interval leaves that undecided.
        prompt_uncertainty: U.
        standard_error: Of U.
        low: Lower end of the interval, in [0, 1].
        high: Upper end.
        n_instances: Instances measured.
        n_perturbations: Perturbations measured.
        pairs: Pairs scored, originals included.
    """

    task_id: str
    selected: bool
    is_open: bool
    prompt_uncertainty: float
    standard_error: float
    low: float
    high: float
    n_instances: int
    n_perturbations: int
    pairs: int


class Race:
    """A race; ask with `next_batch`, answer with `tell`, until no batch comes.

    Args:
        runners: The tasks, ids unique, in the order in which ties are broken.
        config: How it is run.

    Raises:
        InputError: If the budget does not pay for the start.
    """

    def __init__(self, runners: Sequence[Runner], config: RaceConfig) -> None:
        self.config = config
        self.tokens = 0.0
        self._runners = {runner.task_id: runner for runner in runners}
        strata = np.array([runner.stratum for runner in runners])
        self._groups = [np.flatnonzero(strata == name) for name in np.unique(strata)]
        self._tables: dict[str, MeanSquares] = {}
        self._asked: dict[str, Extension] = {}
        start = sum(self._start(runner).tokens for runner in runners)
        if start > config.budget:
            raise InputError(
                f"the first pairs of all tasks cost {start:.0f} tokens, more than the budget of "
                f"{config.budget:.0f}",
                field="budget",
            )

    def next_batch(self) -> tuple[Extension, ...]:
        """What to score next; empty when the race is over.

        The first batch is every task's start. Ask again when all of a batch has been told.
        """
        assert not self._asked, "the last batch has not been told"
        if not self._tables:
            batch = tuple(self._start(runner) for runner in self._runners.values())
        else:
            batch = self._most_open()
        self._asked = {extension.task_id: extension for extension in batch}
        return batch

    def tell(self, task_id: str, moves: Moves) -> None:
        """The task's whole table, of the shape that was asked for.

        Raises:
            ValueError: If nothing was asked about the task, or another shape.
        """
        asked = self._asked.get(task_id)
        if asked is None or moves.shape != (asked.n_instances, asked.n_perturbations):
            raise ValueError(f"{task_id}: a table of shape {moves.shape} was not asked for")
        self._tables[task_id] = MeanSquares.of(moves)
        self.tokens += asked.tokens
        del self._asked[task_id]

    def standings(self) -> tuple[Standing, ...]:
        """Where every task stands, in the order of the tasks."""
        components = self._components()
        u, s = self._estimates(components)
        selected, reach = self._judge(u, s)
        low = np.clip(u - self.config.width * s, 0.0, 1.0)
        high = np.clip(u + self.config.width * s, 0.0, 1.0)
        return tuple(
            Standing(
                task_id=task_id,
                selected=bool(selected[index]),
                is_open=bool(reach[index] > 0),
                prompt_uncertainty=float(u[index]),
                standard_error=float(s[index]),
                low=float(low[index]),
                high=float(high[index]),
                n_instances=table.n,
                n_perturbations=table.k,
                pairs=table.n * (table.k + 1),
            )
            for index, (task_id, table) in enumerate(self._in_order())
        )

    def _in_order(self) -> list[tuple[str, MeanSquares]]:
        return [(task_id, self._tables[task_id]) for task_id in self._runners]

    def _components(self) -> list[Components]:
        tables = [table for _, table in self._in_order()]
        pooled = Pooled.of(tables)
        return [pooled.task(table) for table in tables]

    def _estimates(self, components: Sequence[Components]) -> tuple[Floats, Floats]:
        tables = [table for _, table in self._in_order()]
        errors = [c.standard_error(t.n, t.k) for c, t in zip(components, tables, strict=True)]
        return np.array([table.mean for table in tables]), np.array(errors)

    def _judge(self, u: Floats, s: Floats) -> tuple[NDArray[np.bool_], Floats]:
        """Who is in, and by how much each interval reaches over the border; <= 0 is decided."""
        selected, reach = np.zeros(len(u), bool), np.zeros(len(u))
        for inside in self._groups:
            selected[inside], reach[inside] = judge(
                u[inside], self.config.width * s[inside], self.config.n_select
            )
        return selected, reach

    def _most_open(self) -> tuple[Extension, ...]:
        components = self._components()
        u, s = self._estimates(components)
        _, reach = self._judge(u, s)
        weight = reach
        if self.config.rule == "misplaced":
            weight = np.zeros(len(u))
            for inside in self._groups:
                weight[inside] = misplaced(u[inside], s[inside], self.config.n_select)
        options: list[tuple[float, Extension]] = []
        for index, (task_id, table) in enumerate(self._in_order()):
            if reach[index] > 0:
                best = self._best(self._runners[task_id], table, components[index])
                if best is not None:
                    per_token = self.config.rule == "misplaced"
                    options.append((weight[index] * (best[0] if per_token else 1.0), best[1]))
        options.sort(key=lambda option: -option[0])
        return self._affordable([extension for _, extension in options])

    def _affordable(self, wanted: Sequence[Extension]) -> tuple[Extension, ...]:
        left = self.config.budget - self.tokens
        batch: list[Extension] = []
        for extension in wanted:
            if len(batch) < self.config.batch and extension.tokens <= left:
                batch.append(extension)
                left -= extension.tokens
        return tuple(batch)

    def _start(self, runner: Runner) -> Extension:
        n = min(self.config.start_instances, runner.max_instances)
        k = self.config.start_perturbations
        return Extension(runner.task_id, n, k, runner.cost.tokens(n, k))

    def _best(
        self, runner: Runner, table: MeanSquares, components: Components
    ) -> tuple[float, Extension] | None:
        """The extension that takes most off the log variance per token, and how much."""
        now = components.variance(table.n, table.k)
        best: tuple[float, Extension] | None = None
        for extension in self._extensions(runner, table.n, table.k):
            then = components.variance(extension.n_instances, extension.n_perturbations)
            worth = math.log(now / then) / extension.tokens
            if best is None or worth > best[0]:
                best = worth, extension
        return best

    def _extensions(self, runner: Runner, n: int, k: int) -> list[Extension]:
        """Rows, columns or both, by a third, a half and the whole of what is there."""
        cost, extensions = runner.cost, []
        for share in (1 / 3, 1 / 2, 1.0):
            more_n = min(n + max(1, int(n * share)), runner.max_instances)
            more_k = min(k + max(1, int(k * share)), self.config.max_perturbations)
            for to_n, to_k in ((n, more_k), (more_n, k), (more_n, more_k)):
                tokens = 0.0
                if to_n > n:
                    kept = self.config.prefixes_kept
                    tokens += cost.more_instances(k, to_n - n, prefixes_kept=kept)
                tokens += cost.more_perturbations(to_n, to_k - k)
                if tokens:
                    extensions.append(Extension(runner.task_id, to_n, to_k, tokens))
        return extensions
