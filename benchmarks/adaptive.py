"""How well designs of different cost find the top N: uniform ones, the chosen one, the race.

    python -m benchmarks.adaptive [--select 12] [--seeds 100] [--halves 20]

Simulated over stored pairs (`benchmarks.reference_pairs`): every pair of 20 instances and 20
perturbations of real tasks; and of 10 and 10 of the tasks that come with jostle, a second pool,
among which nothing was chosen. The reference is the ranking from all of them; a simulated
measurement draws its instances and perturbations from them without replacement, so a design close
to the whole agrees with the reference by construction, and one that uses all 20 of both, however
few of their pairs, is close to it: overlaps above 0.9 say little of other instances. The table of
repeats does, whose measurements share none. Costs are computed tokens when equal prefixes are
computed once: prompts and outputs of all pairs, originals with their reference outputs included.
"Assisted" ways and the races rank by `engine.design.assisted` instead of plain means, as the column
`ranking_estimate` of `jostle score` does, but for the value of the 20 x 20 design; the informed
race knows from all pairs what the others must learn (regression, variance components): what better
learning could save. `--design auto` chooses by typical components, which were estimated on these
tasks among others. Writes its tables into benchmarks/results.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.adaptive_tables import (
    Curve,
    show_costs,
    show_designs,
    show_repeats,
)
from benchmarks.common.result_file import RESULTS, ResultFile
from benchmarks.common.stored_pairs import Draw, StoredTask, informed, load, values
from benchmarks.reference_pairs import SECOND, STORED
from engine.design.assisted import estimate
from engine.design.choose import choose_design
from engine.design.entries import RaceConfig
from engine.design.measurement import Measurement
from engine.design.race_rules import Estimator
from engine.variance.analysis import Analysis
from engine.variance.components import TYPICAL
from engine.variance.overlap import expected_overlap, top
from engine.variance.pooling import Pooled, standard_errors

Floats = NDArray[np.float64]
Rank = Callable[[Draw, list[Measurement]], Floats]
SIZES = (2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 18, 20)
REPEATED = (
    *((n, n, n) for n in SIZES if n <= 10),
    *((4, 4, 1), (8, 8, 1), (6, 6, 2), (10, 7, 2), (10, 10, 2), (10, 10, 5)),
)
"""Instances, perturbations and instances per perturbation of designs that can be repeated."""


def plain(_draw: Draw, measured: list[Measurement]) -> Floats:
    """Ranks by prompt uncertainty as it is measured."""
    return values(measured)


def assisted(draw: Draw, measured: list[Measurement]) -> Floats:
    """Ranks by the estimate."""
    return draw.assisted(measured)


class Simulation:
    """All measurements that are compared, on the same draws."""

    def __init__(self, tasks: list[StoredTask], n_select: int, seeds: Sequence[int]) -> None:
        self.tasks = tasks
        self.n_select = n_select
        self.draws = [Draw(tasks, seed) for seed in seeds]
        self.reference = top(np.array([task.moves.mean() for task in tasks]), n_select)
        self.most = min(min(task.moves.shape) for task in tasks)
        self.largest = self.tokens(self.most, self.most)
        self.config = RaceConfig(
            n_select=n_select, budget=self.largest, max_perturbations=self.most
        )

    def tokens(self, n: int, k: int, r: int | None = None) -> float:
        """Computed tokens of a design, of r instances under each perturbed prompt; None: of all."""
        cells = None if r is None else r * k
        return sum(task.cost.tokens(n, k, cells) for task in self.tasks)

    def share(self, selected: NDArray[np.int64]) -> float:
        """Overlap with the reference."""
        return float(np.isin(selected, self.reference).mean())

    def found(self, draw: Draw, measured: list[Measurement], rank: Rank) -> float:
        """Overlap of a uniform design in one draw."""
        return self.share(top(rank(draw, measured), self.n_select))

    def uniform(self, name: str, rank: Rank) -> Curve:
        """Equal numbers of instances and perturbations; the paper's is n = k = 10."""
        sizes = [n for n in SIZES if n <= self.most]
        overlap = [
            np.mean([self.found(draw, draw.uniform(n, n), rank) for draw in self.draws])
            for n in sizes
        ]
        return Curve(
            name,
            np.array([self.tokens(n, n) for n in sizes]),
            np.array(overlap),
            tuple(f"{n}x{n}" for n in sizes),
        )

    def auto(self, name: str, budgets: Floats, ranks: Sequence[Rank]) -> list[Curve]:
        """The design chosen for each budget by `TYPICAL`, as without `--earlier`."""
        costs = [task.cost for task in self.tasks]
        designs = [
            choose_design(
                costs, TYPICAL, budget, max_instances=self.most, max_perturbations=self.most
            )
            for budget in budgets
        ]
        overlap: list[list[float]] = [[] for _ in ranks]
        labels = []
        for design in designs:
            n, k, r = design.n_instances, design.n_perturbations, design.instances_per_perturbation
            measured = [(draw, draw.uniform(n, k, r)) for draw in self.draws]
            for rank, of_rank in zip(ranks, overlap, strict=True):
                of_rank.append(float(np.mean([self.found(*each, rank) for each in measured])))
            labels.append(f"{n}x{k}, {r} each")
        spent = np.array([design.tokens for design in designs])
        return [
            Curve(each, spent, np.array(of_rank), tuple(labels))
            for each, of_rank in zip((name, f"{name}, assisted"), overlap, strict=False)
        ]

    def race(self, name: str, config: RaceConfig, estimator: Estimator = estimate) -> Curve:
        """One race per draw; the curve is what a race with a smaller budget would have come to."""
        histories = [draw.race(config, estimator)[1] for draw in self.draws]
        first = max(history[0][0] for history in histories)
        grid = np.geomspace(first, config.budget, 60)
        overlap = [
            np.mean(
                [self.share([s for spent, s in each if spent <= budget][-1]) for each in histories]
            )
            for budget in grid
        ]
        return Curve(name, grid, np.array(overlap))

    def repeats(self) -> list[tuple[str, float, float, float, float]]:
        """Design; overlap of disjoint repeats, the expected one, mean absolute error per draw.

        Last the tokens of one measurement.
        """
        rows = []
        for n, k, r in REPEATED:
            observed, expected = [], []
            for seed, draw in enumerate(self.draws):
                measured = draw.uniform(n, k, r)
                u = values(measured)
                again = top(values(draw.uniform(n, k, r, last=True)), self.n_select)
                observed.append(float(np.isin(top(u, self.n_select), again).mean()))
                errors = standard_errors([each.moves for each in measured])
                known = [error for error in errors if error is not None]
                expected.append(expected_overlap(u.tolist(), known, self.n_select, seed=seed))
            error = np.abs(np.array(expected) - np.mean(observed)).mean()
            rows.append(
                (
                    f"{n}x{k}" + (f", {r} each" if r < n else ""),
                    float(np.mean(observed)),
                    float(np.mean(expected)),
                    float(error),
                    self.tokens(n, k, r),
                )
            )
        return rows


def halves(tasks: list[StoredTask], n_select: int, n_halves: int) -> list[Curve]:
    """Uniform designs and the race on random halves of the tasks, for their own top N.

    A check that nothing was fitted to these tasks. Tokens are shares of the 20 x 20 design's.
    """
    grid = np.geomspace(0.02, 1.0, 200)
    overlap: dict[str, list[Floats]] = {}
    first = 0.0
    for half in range(n_halves):
        rng = np.random.default_rng(1_000 + half)
        some = sorted(rng.choice(len(tasks), len(tasks) // 2, replace=False))
        seeds = range(1_000 * half, 1_000 * half + 4)
        run = Simulation([tasks[index] for index in some], n_select // 2, seeds)
        for curve in (run.uniform("uniform, n = k", plain), run.race("race", run.config)):
            at = np.log(curve.tokens / run.largest)
            first = max(first, float(np.exp(at[0])))
            overlap.setdefault(curve.name, []).append(np.interp(np.log(grid), at, curve.overlap))
    kept = grid >= first
    return [
        Curve(name, grid[kept], np.mean(of_halves, axis=0)[kept])
        for name, of_halves in overlap.items()
    ]


def between(budgets: Floats) -> Floats:
    """The budgets, and the geometric mean of any two neighbours."""
    middle = np.sqrt(budgets[1:] * budgets[:-1])
    return np.sort(np.concatenate([budgets, middle]))


def compare(run: Simulation) -> list[Curve]:
    """All ways; the first is what the others are measured against."""
    config, uniform = run.config, run.uniform("uniform, n = k", plain)
    return [
        uniform,
        run.uniform("uniform, n = k, assisted", assisted),
        *run.auto("--design auto", between(uniform.tokens), (plain, assisted)),
        run.race("race", config),
        run.race("race, prefixes stay cached", config.model_copy(update={"prefixes_kept": True})),
        run.race("race by LUCB's rule", config.model_copy(update={"rule": "lucb"})),
        run.race("race, informed", config, informed(run.tasks)),
    ]


def second_pool(tasks: list[StoredTask], n_select: int, seeds: Sequence[int]) -> list[Curve]:
    """The main ways on other tasks, among which nothing was chosen."""
    run = Simulation(tasks, n_select, seeds)
    return [
        run.uniform("uniform, n = k", plain),
        run.uniform("uniform, n = k, assisted", assisted),
        run.race("race", run.config),
    ]


def main() -> None:
    """Simulates and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=Path, default=STORED)
    parser.add_argument("--select", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--halves", type=int, default=20)
    parser.add_argument("--results", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    result = ResultFile("adaptive", chosen.results, width=116)
    tasks = load(chosen.pairs)
    run = Simulation(tasks, chosen.select, range(chosen.seeds))
    relative = Pooled.of([Analysis.of(task.moves) for task in tasks]).relative
    title = f"top {chosen.select} of {len(tasks)} real tasks, mean over {chosen.seeds} seeds"
    result.print(f"{title}; reference from 20 instances and 20 perturbations")
    result.print(
        f"variance components relative to the squared prompt uncertainty: instances "
        f"{relative.instances:.3f}, perturbations {relative.perturbations:.3f}, interaction "
        f"{relative.interaction:.3f}"
    )
    curves = compare(run)
    show_costs(
        curves,
        "computed tokens, in thousands, for an overlap with the reference; ratio",
        1e3,
        0,
        result,
    )
    show_costs(
        halves(tasks, chosen.select, chosen.halves),
        f"percent of the 20 x 20 design's tokens on {chosen.halves} random halves of the tasks, "
        f"for the top {chosen.select // 2} of each; ratio",
        0.01,
        1,
        result,
    )
    second = load(SECOND)
    show_costs(
        second_pool(second, chosen.select, range(chosen.seeds)),
        f"computed tokens, in thousands, for the top {chosen.select} of {len(second)} tasks that "
        "come with jostle; reference from 10 instances and 10 perturbations",
        1e3,
        0,
        result,
    )
    show_repeats(run.repeats(), result)
    show_designs([curve for curve in curves if curve.labels], result)
    result.save({}, chosen)


if __name__ == "__main__":
    main()
