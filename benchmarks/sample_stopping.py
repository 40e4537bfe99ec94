"""Would samples be worth stopping early where a task's membership of the top N is settled?

    python -m benchmarks.sample_stopping [--repeats 200] [--top 0.25]

Simulated from the stored pairs of real tasks and of the bundled pool (by
`benchmarks.reference_pairs`): a sample under a prompt is the reference output with its joint
probability there, and else disagrees. Designs of n instances and k perturbations are drawn from the
stored ones; under each prompt m samples. What is chosen of them is held against the choice by all
stored prompts and endless samples, and against another draw of the same design. Stopping early: one
sample a prompt; then, time after time, one more under every prompt of the task that is nearest to
the border between the chosen and the others in errors of its own, until as many have been spent as
by the equal shares beside it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.common.result_file import RESULTS, ResultFile
from benchmarks.common.stored_pairs import by_task
from benchmarks.reference_pairs import SECOND, STORED

POOLS = {
    "51 real tasks": (STORED, ((10, 10), (5, 8))),
    "56 bundled tasks": (SECOND, ((5, 5),)),
}
SAMPLES = (1, 2, 5, 20)

Floats = NDArray[np.float64]


def disagreements(file: Path) -> list[Floats]:
    """Of each task, how likely a sample is another output than the reference; (n, k), j >= 1."""
    tables = []
    for ordered, shape in by_task(file):
        p = ordered["probability"].to_numpy().astype(np.float64).reshape(shape)
        n_tokens = ordered["n_tokens"].to_numpy().reshape(shape)
        tables.append((1 - p**n_tokens)[:, 1:])
    return tables


class Simulation:
    """Draws of one design from the stored prompts."""

    def __init__(self, tables: list[Floats], n: int, k: int, n_top: int, seed: int) -> None:
        self._tables, self._n, self._k, self._n_top = tables, n, k, n_top
        self._rng = np.random.default_rng(seed)
        self.truth = self._highest(np.array([table.mean() for table in tables]))

    def _highest(self, estimates: Floats) -> frozenset[int]:
        """Places of the highest ones; equal ones by lot."""
        lots = self._rng.random(len(estimates))
        return frozenset(np.lexsort((lots, -estimates))[: self._n_top].tolist())

    def _prompts(self) -> Floats:
        """A design of each task; shape (tasks, n * k)."""
        rng, drawn = self._rng, []
        for table in self._tables:
            rows = rng.choice(table.shape[0], self._n, replace=False)
            columns = rng.choice(table.shape[1], self._k, replace=False)
            drawn.append(table[np.ix_(rows, columns)].ravel())
        return np.array(drawn)

    def endless(self) -> frozenset[int]:
        """As many samples as one likes."""
        return self._highest(self._prompts().mean(axis=1))

    def equal(self, m: int) -> frozenset[int]:
        """So many under each prompt."""
        shares = self._rng.binomial(m, self._prompts()) / m
        return self._highest(shares.mean(axis=1))

    def stopped(self, m: int) -> frozenset[int]:
        """As many in all, after the first where membership is open."""
        prompts = self._prompts()
        n_prompts = prompts.shape[1]
        hits = self._rng.binomial(1, prompts).astype(np.float64)
        times = np.ones(len(prompts))
        while times.sum() < m * len(prompts):
            n_drawn, n_hits = times * n_prompts, hits.sum(axis=1)
            means, smooth = n_hits / n_drawn, (n_hits + 1) / (n_drawn + 2)
            # What further samples can still move: the noise of drawing, not that of the prompts.
            noise = np.sqrt(smooth * (1 - smooth) / n_drawn)
            ordered = np.sort(means)[::-1]
            border = ordered[self._n_top - 1 : self._n_top + 1].mean()
            nearest = int(np.argmin(np.abs(means - border) / noise))
            hits[nearest] += self._rng.binomial(1, prompts[nearest])
            times[nearest] += 1
        return self._highest((hits / times[:, None]).mean(axis=1))


def overlaps(
    draw: Callable[[], frozenset[int]], truth: frozenset[int], repeats: int
) -> tuple[float, float]:
    """Share of the choice in the right one, and in that of another draw."""
    drawn = [draw() for _ in range(2 * repeats)]
    size = len(truth)
    right = np.mean([len(each & truth) / size for each in drawn])
    pairs = zip(drawn[::2], drawn[1::2], strict=True)
    return float(right), float(np.mean([len(one & other) / size for one, other in pairs]))


def main() -> None:
    """Simulates all designs and prints a table of each pool."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--top", type=float, default=0.25, help="share of the pool that is chosen")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    result, figures = ResultFile("sample_stopping", chosen.results), {}
    for pool, (file, designs) in POOLS.items():
        tables = disagreements(file)
        rows = []
        for n, k in designs:
            n_top = round(chosen.top * len(tables))
            run = Simulation(tables, n, k, n_top, chosen.seed)
            ways: dict[str, Callable[[], frozenset[int]]] = {}
            for m in SAMPLES:
                ways[f"{m} under every prompt"] = partial(run.equal, m)
                if 1 < m < SAMPLES[-1]:
                    ways[f"{m} on average, stopped"] = partial(run.stopped, m)
            ways["endless"] = run.endless
            for way, draw in ways.items():
                right, again = overlaps(draw, run.truth, chosen.repeats)
                rows.append([f"n = {n}, k = {k}: {way}", f"{right:.3f}", f"{again:.3f}"])
                figures[f"{pool}, n = {n}, k = {k}, {way}"] = right
        result.table(
            f"{pool}: share of the top {n_top} that is right",
            ["samples", "right", "in another draw"],
            rows,
        )
    result.save(figures, chosen)


if __name__ == "__main__":
    main()
