"""How well designs of different cost find the top N: uniform ones, the chosen one, the race.

    python -m benchmarks.adaptive [--select 12] [--seeds 50]

Simulated over stored pairs (`benchmarks.reference_pairs`): every pair of 20 instances and 20
perturbations of real tasks. The reference is the ranking from all of them; a simulated measurement
draws its instances and perturbations from them without replacement, so a design close to 20 x 20
agrees with the reference by construction. Costs are computed tokens when
equal prefixes are computed once. Writes a table and a picture into benchmarks/results.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.reference_pairs import STORED
from benchmarks.stored_pairs import Draw, StoredTask, load, values
from engine.design.choose import choose_design
from engine.design.components import MeanSquares, Pooled, standard_errors
from engine.design.overlap import expected_overlap, top
from engine.design.race import RaceConfig

Floats = NDArray[np.float64]
RESULTS = Path(__file__).parent / "results"
SIZES = (2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 18, 20)
LEVELS = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
PILOT = (3, 2)
"""The design that `auto` learns the components from; its tokens are not counted, it is reused."""


@dataclass(frozen=True)
class Curve:
    """Mean overlap with the reference against mean computed tokens, tokens ascending."""

    name: str
    tokens: Floats
    overlap: Floats
    labels: tuple[str, ...] = ()

    def tokens_for(self, level: float) -> float:
        """Tokens at which the curve first reaches an overlap, interpolated; nan outside it."""
        reached = np.maximum.accumulate(self.overlap)
        if level > reached[-1] or level < reached[0]:
            return float("nan")
        # Where noise lets the curve fall, its highest value so far counts.
        at = int(np.argmax(reached >= level))
        if at == 0:
            return float(self.tokens[0])
        share = (level - reached[at - 1]) / (reached[at] - reached[at - 1])
        return float(self.tokens[at - 1] + share * (self.tokens[at] - self.tokens[at - 1]))


class Simulation:
    """All measurements that are compared, on the same draws."""

    def __init__(self, tasks: list[StoredTask], n_select: int, n_seeds: int) -> None:
        self.tasks = tasks
        self.n_select = n_select
        self.draws = [Draw(tasks, seed) for seed in range(n_seeds)]
        self.reference = top(np.array([task.moves.mean() for task in tasks]), n_select)

    def tokens(self, n: int, k: int) -> float:
        """Computed tokens of a uniform design."""
        return sum(task.cost.tokens(n, k) for task in self.tasks)

    def share(self, selected: NDArray[np.int64]) -> float:
        """Overlap with the reference."""
        return float(np.isin(selected, self.reference).mean())

    def measured(self, draw: Draw, n: int, k: int) -> float:
        """Overlap of a uniform design in one draw."""
        return self.share(top(values(draw.uniform(n, k)), self.n_select))

    def uniform(self) -> Curve:
        """Equal numbers of instances and perturbations; the paper's is n = k = 10."""
        overlap = [np.mean([self.measured(draw, n, n) for draw in self.draws]) for n in SIZES]
        return Curve(
            "uniform, n = k",
            np.array([self.tokens(n, n) for n in SIZES]),
            np.array(overlap),
            tuple(f"{n}x{n}" for n in SIZES),
        )

    def auto(self, budgets: Floats) -> Curve:
        """The design chosen for each budget, from the components of a small design of the draw."""
        spent, overlap, labels = [], [], []
        for budget in budgets:
            chosen = []
            for draw in self.draws:
                pooled = Pooled.of([MeanSquares.of(table) for table in draw.uniform(*PILOT)])
                design = choose_design(
                    [task.cost for task in self.tasks],
                    pooled.relative,
                    float(budget),
                    max_instances=20,
                    max_perturbations=20,
                )
                chosen.append((design.n_instances, design.n_perturbations, design.tokens))
            pairs = list(zip(self.draws, chosen, strict=True))
            spent.append(np.mean([tokens for _, _, tokens in chosen]))
            overlap.append(np.mean([self.measured(draw, n, k) for draw, (n, k, _) in pairs]))
            n, k = (float(np.median([design[axis] for design in chosen])) for axis in (0, 1))
            labels.append(f"{n:g}x{k:g}")
        return Curve("--design auto", np.array(spent), np.array(overlap), tuple(labels))

    def race(self, name: str, config: RaceConfig) -> Curve:
        """One race per draw; the curve is what a race with a smaller budget would have come to."""
        histories = [draw.race(config)[1] for draw in self.draws]
        first = max(history[0][0] for history in histories)
        grid = np.geomspace(first, config.budget, 60)
        overlap = [
            np.mean(
                [self.share([s for spent, s in each if spent <= budget][-1]) for each in histories]
            )
            for budget in grid
        ]
        return Curve(name, grid, np.array(overlap))

    def repeats(self) -> list[tuple[int, float, float, float]]:
        """N = k; overlap of disjoint repeats, the expected one, mean absolute error per draw."""
        rows = []
        for n in (n for n in SIZES if n <= 10):
            observed, expected = [], []
            for seed, draw in enumerate(self.draws):
                tables = draw.uniform(n, n)
                u = values(tables)
                again = top(values(draw.uniform(n, n, last=True)), self.n_select)
                observed.append(float(np.isin(top(u, self.n_select), again).mean()))
                errors = standard_errors(tables)
                expected.append(expected_overlap(u.tolist(), errors, self.n_select, seed=seed))
            error = np.abs(np.array(expected) - np.mean(observed)).mean()
            rows.append((n, float(np.mean(observed)), float(np.mean(expected)), float(error)))
        return rows


def show_costs(curves: Sequence[Curve], console: Console) -> None:
    """Tokens for each overlap and their ratio to the first curve's."""
    table = Table(title="computed tokens, in thousands, for an overlap with the reference; ratio")
    table.add_column("way")
    for level in LEVELS:
        table.add_column(f"{level:.2f}", justify="right")
    for curve in curves:
        cells = []
        for level in LEVELS:
            mine, uniform = curve.tokens_for(level), curves[0].tokens_for(level)
            cells.append("-" if np.isnan(mine) else f"{mine / 1e3:.0f}  {mine / uniform:.2f}")
        table.add_row(curve.name, *cells)
    console.print(table)


def show_designs(curves: Sequence[Curve], console: Console) -> None:
    """What each uniform or chosen design found."""
    table = Table(title="mean overlap with the reference")
    for column in ("way", "n x k", "thousand tokens", "overlap"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for curve in curves:
        for label, tokens, overlap in zip(curve.labels, curve.tokens, curve.overlap, strict=True):
            table.add_row(curve.name, label, f"{tokens / 1e3:.0f}", f"{overlap:.3f}")
    console.print(table)


def show_repeats(rows: Sequence[tuple[int, float, float, float]], console: Console) -> None:
    """Observed and expected overlap of repeats."""
    table = Table(title="overlap of the top N with a repeat on other instances and perturbations")
    for column in ("n = k", "observed", "expected", "difference", "mean miss of one prediction"):
        table.add_column(column, justify="right")
    for n, observed, expected, miss in rows:
        difference = f"{expected - observed:+.3f}"
        table.add_row(str(n), f"{observed:.3f}", f"{expected:.3f}", difference, f"{miss:.3f}")
    console.print(table)


def draw_picture(curves: Sequence[Curve], title: str, file: Path) -> None:
    """Overlap against tokens."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7.6, 4.8))
    colours = ("#222222", "#0072B2", "#D55E00", "#E69F00", "#009E73")  # Okabe and Ito
    for curve, colour in zip(curves, colours, strict=False):
        marker = "o" if curve.labels else None
        axes.plot(curve.tokens / 1e3, curve.overlap, marker=marker, ms=4, color=colour)
        axes.plot([], [], marker=marker, ms=4, color=colour, label=curve.name)
    for label, tokens, overlap in zip(
        curves[0].labels, curves[0].tokens, curves[0].overlap, strict=True
    ):
        axes.annotate(
            label, (tokens / 1e3, overlap), (5, -10), textcoords="offset points", fontsize=8
        )
    axes.set_xscale("log")
    ticks = [50, 100, 200, 500, 1000]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("computed tokens, thousands")
    axes.set_ylabel("overlap with the reference")
    axes.set_title(title, fontsize=11)
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right", frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(file, dpi=150)
    plt.close(figure)


def main() -> None:
    """Simulates, prints the tables and draws the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=Path, default=STORED)
    parser.add_argument("--select", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=50)
    chosen = parser.parse_args()
    console = Console(width=110, record=True)
    tasks = load(chosen.pairs)
    run = Simulation(tasks, chosen.select, chosen.seeds)
    relative = Pooled.of([MeanSquares.of(task.moves) for task in tasks]).relative
    title = f"top {chosen.select} of {len(tasks)} real tasks, mean over {chosen.seeds} seeds"
    console.print(f"{title}; reference from 20 instances and 20 perturbations")
    console.print(
        f"variance components relative to the squared prompt uncertainty: instances "
        f"{relative.instances:.3f}, perturbations {relative.perturbations:.3f}, interaction "
        f"{relative.interaction:.3f}"
    )
    uniform = run.uniform()
    budget = float(uniform.tokens[-1])
    config = RaceConfig(n_select=chosen.select, budget=budget)
    curves = [
        uniform,
        run.auto(uniform.tokens),
        run.race("--budget adaptive", config),
        run.race(
            "the same, prefixes stay cached", config.model_copy(update={"prefixes_kept": True})
        ),
        run.race("the same with LUCB's rule", config.model_copy(update={"rule": "lucb"})),
    ]
    show_costs(curves, console)
    show_repeats(run.repeats(), console)
    show_designs([curve for curve in curves if curve.labels], console)
    RESULTS.mkdir(exist_ok=True)
    draw_picture(curves, title[0].upper() + title[1:], RESULTS / "adaptive.png")
    (RESULTS / "adaptive.txt").write_text(console.export_text())


if __name__ == "__main__":
    main()
