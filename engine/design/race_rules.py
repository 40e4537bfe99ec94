"""The race for the top N: pairs go where membership is still open, until a budget is spent.

A pure state machine: `next_batch` says which designs to extend, `tell` takes measurements in, and
neither knows where they come from (a running engine, or stored pairs in a simulation).

Tasks are ranked by `engine.design.assisted`: the value that a task's whole design (all its
instances, `max_perturbations` perturbations) would give, as far as it can be guessed by now. Two
rules say what to extend next; both end when nothing is open or the budget is spent.

`doubt` (the default) is stepwise uncertainty reduction (Bect, Ginsbourger, Li, Picheny and Vazquez,
2012, *Sequential design of computer experiments for the estimation of a probability of failure*),
per token: a task lies on the wrong side of the border with probability q = Phi(-|m - c| / d), where
m and d are mean and deviation of its posterior and c lies between the N-th and the next of all m;
the extension comes first that takes most off the expected sum of q (1 - q) per computed token.

`lucb` is LUCB (Kalyanakrishnan et al., 2012, *PAC subset selection in stochastic multi-armed
bandits*): members of the top N with the lowest lower ends, outsiders with the highest upper ends.

An extension adds instances, perturbations or both, and leaves holes in the table where a further
pair would say less than it costs (`engine.design.extensions`). Several tasks are extended between
two decisions, so that the engine stays busy. Intervals are normal ones on the logarithm: empirical
Bernstein intervals (Maurer and Pontil, 2009), which the bounds [0, 1] would allow, hold for
independent moves, which those of a task are not, and with ten of them they are wider than [0, 1]
itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from engine.design.assisted import Estimates, Evidence, estimate, remaining
from engine.design.border import distance, doubt, expected_doubt, judge
from engine.design.entries import Extension, RaceConfig, Runner, Standing
from engine.design.extensions import GROWTHS, NextTables, Room, Scored, Sizes, grown, options
from engine.design.measurement import Expectation, Measurement
from engine.errors import EngineError, InputError
from engine.variance.analysis import Analysis
from engine.variance.pooling import Pooled

Floats = NDArray[np.float64]
Estimator = Callable[[Evidence, Floats | None], Estimates]
"""Makes estimates of evidence, starting from the log levels of an earlier fit if there was one."""


class Race:
    """A race; ask with `next_batch`, answer with `tell`, until no batch comes.

    Args:
        runners: The tasks, ids unique, in the order in which ties are broken.
        estimator: What the tasks are ranked by.
        unmeasurable: Ids of tasks that cannot take part, for no perturbation changes their prompts.

    Raises:
        InputError: If the budget does not pay for the start.
    """

    def __init__(
        self,
        runners: Sequence[Runner],
        config: RaceConfig,
        estimator: Estimator = estimate,
        *,
        unmeasurable: Sequence[str] = (),
    ) -> None:
        self.config = config
        self.unmeasurable = tuple(unmeasurable)
        self._estimator = estimator
        self.tokens = 0.0
        self._line_up(runners)
        self._batch = config.batch or max(2, len(runners) // 25)
        self._shifts = {runner.task_id: runner.shifts for runner in runners}
        self._tables: dict[str, Analysis] = {}
        self._scored: dict[str, Scored] = {}
        self._expected: dict[str, Expectation] = {}
        self._asked: dict[str, Extension] = {}
        self._fit: tuple[Evidence, Estimates] | None = None
        self._levels: Floats | None = None
        start = sum(self._start(runner).tokens for runner in runners)
        if start > config.budget:
            raise InputError(
                f"the first pairs of all tasks cost {start:.0f} tokens, more than the budget of "
                f"{config.budget:.0f}",
                field="budget",
            )

    def _line_up(self, runners: Sequence[Runner]) -> None:
        self._runners = list(runners)
        strata = np.array([runner.stratum for runner in runners])
        self._groups = [np.flatnonzero(strata == name) for name in np.unique(strata)]
        self._limits = Room(
            prefix=np.array([runner.cost.prefix for runner in runners]),
            tail=np.array([runner.cost.tail for runner in runners]),
            instances=np.array([runner.max_instances for runner in runners], dtype=float),
            perturbations=np.full(len(runners), float(self.config.max_perturbations)),
            prefixes_kept=self.config.prefixes_kept,
        )

    def next_batch(self) -> tuple[Extension, ...]:
        """What to score next; empty when the race is over.

        The first batch is every task's start. Ask again when all of a batch has been told.
        """
        assert not self._asked, "the last batch has not been told"
        if not self._tables:
            batch = tuple(self._start(runner) for runner in self._runners)
        else:
            batch = self._most_open()
        self._asked = {extension.task_id: extension for extension in batch}
        return batch

    def tell(self, task_id: str, measured: Measurement) -> None:
        """The task's whole table, with the moves that were asked for.

        Raises:
            ValueError: If nothing was asked about the task, or other moves.
        """
        asked, shape = self._asked.get(task_id), measured.moves.shape
        if asked is None or not np.array_equal(asked.scored, np.isfinite(measured.moves)):
            raise ValueError(f"{task_id}: this table of shape {shape} was not asked for")
        self._tables[task_id] = Analysis.of(measured.moves)
        self._scored[task_id] = asked.scored
        self._expected[task_id] = Expectation.of(measured, self._shifts[task_id])
        self.tokens += asked.tokens
        self._fit = None
        del self._asked[task_id]

    def withdraw(self, task_ids: Sequence[str]) -> None:
        """Take tasks out that were asked about and cannot be measured; their tokens count as spent.

        Raises:
            EngineError: If no task is left.
        """
        for task_id in task_ids:
            self.tokens += self._asked.pop(task_id).tokens
            self._tables.pop(task_id, None)
        gone = set(task_ids)
        stays = [runner.task_id not in gone for runner in self._runners]
        if not any(stays):
            raise EngineError("no task could be scored")
        self._line_up(list(compress(self._runners, stays)))
        if self._levels is not None:
            self._levels = self._levels[stays]
        self._fit = None

    def selected(self) -> NDArray[np.bool_]:
        """Who is among the top N now, in the order of the tasks."""
        return self._judge()[0]

    def standings(self) -> tuple[Standing, ...]:
        """Where every task stands, in the order of the tasks."""
        _, estimates = self._estimates()
        selected, reach = self._judge()
        half = self.config.width * estimates.log_error
        low, high = (np.clip(np.exp(estimates.log_mean + side), 0.0, 1.0) for side in (-half, half))
        tables = [self._tables[runner.task_id] for runner in self._runners]
        pooled = Pooled.of(tables)
        return tuple(
            Standing(
                task_id=runner.task_id,
                selected=bool(selected[index]),
                is_open=bool(reach[index] > 0),
                prompt_uncertainty=table.mean,
                standard_error=pooled.standard_error(table),
                ranking_estimate=min(1.0, float(estimates.value[index])),
                ranking_error=float(estimates.error[index]),
                low=float(low[index]),
                high=float(high[index]),
                n_instances=table.n,
                n_perturbations=table.k,
                pairs=table.n + table.cells,
            )
            for index, (runner, table) in enumerate(zip(self._runners, tables, strict=True))
        )

    def _estimates(self) -> tuple[Evidence, Estimates]:
        """The evidence so far and what it says; fitted once after each batch."""
        if self._fit is None:
            evidence = Evidence.of(
                [self._tables[runner.task_id] for runner in self._runners],
                [self._expected[runner.task_id] for runner in self._runners],
                [
                    (max(n, self._tables[each.task_id].n), max(k, self._tables[each.task_id].k))
                    for each, n, k in zip(
                        self._runners,
                        self._limits.instances,
                        self._limits.perturbations,
                        strict=True,
                    )
                ],
            )
            self._fit = evidence, self._estimator(evidence, self._levels)
            self._levels = self._fit[1].log_mean
        return self._fit

    def _judge(self) -> tuple[NDArray[np.bool_], Floats]:
        """Who is in, and by how much each interval reaches over the border; <= 0 is decided."""
        _, found = self._estimates()
        selected, reach = np.zeros(len(self._runners), bool), np.zeros(len(self._runners))
        for inside in self._groups:
            selected[inside], reach[inside] = judge(
                found.log_mean[inside],
                self.config.width * found.log_error[inside],
                self.config.n_select,
            )
        return selected, reach

    def _most_open(self) -> tuple[Extension, ...]:
        evidence, found = self._estimates()
        _, reach = self._judge()
        steps = options(self._sizes(), self._limits)
        affordable = steps.tokens <= self.config.budget - self.tokens
        worth = np.where(affordable & (reach > 0), self._worth(evidence, found, steps), -np.inf)
        best = worth.argmax(axis=0)
        columns = np.arange(len(best))
        first = reach if self.config.rule == "lucb" else worth[best, columns]
        wanted = np.argsort(-first, kind="stable")
        left = self.config.budget - self.tokens
        batch: list[Extension] = []
        for task in wanted:
            option, name = best[task], self._runners[task].task_id
            tokens = float(steps.tokens[option, task])
            if len(batch) == self._batch:
                break
            if np.isfinite(worth[option, task]) and tokens <= left:
                table = grown(
                    self._scored[name],
                    GROWTHS[option],
                    int(steps.rows[option, task]),
                    int(steps.columns[option, task]),
                    draw=f"race/{name}",
                )
                batch.append(Extension(name, table, tokens))
                left -= tokens
        return tuple(batch)

    def _sizes(self) -> Sizes:
        names = [runner.task_id for runner in self._runners]
        return Sizes.of(
            [self._scored[name] for name in names], [self._tables[name] for name in names]
        )

    def _worth(self, evidence: Evidence, found: Estimates, steps: NextTables) -> Floats:
        """What each option is worth per token, shape (options, tasks)."""
        tables = evidence.tables
        now = remaining(evidence, found.relative, tables.n, tables.k, tables.cells)
        then = np.array([
            remaining(evidence, found.relative, n, k, cells)
            for n, k, cells in zip(
                steps.effective_n, steps.effective_k, steps.cells, strict=True
            )
        ])  # fmt: skip
        if self.config.rule == "lucb":
            return np.asarray(np.log(now / then) / steps.tokens)
        away = np.zeros(len(now))
        for inside in self._groups:
            away[inside] = distance(found.log_mean[inside], self.config.n_select)
        before = np.broadcast_to(found.log_error, then.shape)
        # The extension adds its information to what the posterior holds.
        after = 1 / np.sqrt(before**-2.0 + np.maximum(1 / then - 1 / now, 0.0))
        gain = doubt(away, found.log_error) - expected_doubt(
            np.broadcast_to(away, then.shape), before, after
        )
        return np.asarray(gain / steps.tokens)

    def _start(self, runner: Runner) -> Extension:
        n = min(self.config.start_instances, runner.max_instances)
        k = self.config.start_perturbations
        return Extension(runner.task_id, np.ones((n, k), bool), runner.cost.tokens(n, k))
