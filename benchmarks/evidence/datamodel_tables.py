"""What the runs of a datamodel say: the analysis planned in `docs/evidence.md`."""

from __future__ import annotations

from pathlib import Path

import altair as alt
import numpy as np
import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.evidence.partial_effects import (
    Effect,
    TaskEffects,
    added,
    best_of,
    partial_effect,
    spread_of_repeats,
    task_effects,
    with_ones,
)
from benchmarks.evidence.task_subsets import Floats, given, means, spread_of_means
from training.report.charts.picture import write_picture

UNCERTAINTY, PROBABILITY = "prompt_uncertainty", "prediction_probability"
OUTCOMES = {"rouge_l": 2, "gold_logprob": 3}
"""What is predicted, and the digits it is shown with."""

WANTED = 0.5
"""Half width of the interval that is aimed at, in ROUGE-L per standard deviation."""


class Runs:
    """The runs of a datamodel, and the predictors of its tasks.

    Args:
        runs: As `benchmarks.datamodel` stores them; run -1 is the base model.
        predictors: `task_id` and one column per predictor, tasks in the pool's order.

    Attributes:
        frame: The runs without the base model's.
        base: Outcomes of the base model; none if it was not evaluated.
        members: Share of each task in each run.
        of_subset: Rows of the runs of each subset.
    """

    def __init__(self, runs: pl.DataFrame, predictors: pl.DataFrame) -> None:
        self.frame = runs.filter(pl.col("run") >= 0).sort("run")
        self.base = next(runs.filter(pl.col("run") < 0).iter_rows(named=True), None)
        self.predictors = predictors
        places = {task_id: at for at, task_id in enumerate(predictors["task_id"])}
        subsets = [tuple(places[task_id] for task_id in ids) for ids in self.frame["tasks"]]
        self.n_tasks = len(subsets[0])
        self.members = np.zeros((len(subsets), len(places)))
        self.of_subset: dict[tuple[int, ...], list[int]] = {}
        for row, subset in enumerate(subsets):
            self.members[row, list(subset)] = 1 / self.n_tasks
            self.of_subset.setdefault(subset, []).append(row)

    @property
    def names(self) -> list[str]:
        """Of the predictors."""
        return [name for name in self.predictors.columns if name != "task_id"]

    def column(self, name: str) -> Floats:
        """A predictor of every task."""
        return self.predictors[name].cast(pl.Float64).to_numpy()

    def x(self, name: str) -> Floats:
        """A predictor of every subset."""
        return means(list(self.of_subset), self.column(name))

    def y(self, outcome: str) -> Floats:
        """An outcome of every subset, the mean over its runs."""
        return self.per_subset(self.frame[outcome].to_numpy())

    def per_subset(self, values: Floats) -> Floats:
        """Means over the runs of each subset."""
        return np.array([values[rows].mean() for rows in self.of_subset.values()])

    def effect(self, name: str, outcome: str, *others: str, test: bool = False) -> Effect:
        """Of a predictor beside others, per standard deviation of uniform draws."""
        return partial_effect(
            self.y(outcome), self.x(name), *(self.x(other) for other in others), test=test
        )

    def gain_of_choosing(self, outcome: str) -> tuple[float, Effect]:
        """Choosing the tasks of highest U: by how many standard deviations of uniform draws their
        mean U is higher, and what the model of U and P says they gain over a draw.

        They differ in P, too. The gain b dU + c dP is the coefficient of U / dU beside what is left
        of P along that way.
        """
        best = tuple(np.argsort(-self.column(UNCERTAINTY))[: self.n_tasks].tolist())
        higher, likelier = (
            float(means([best], self.column(name))[0]) for name in (UNCERTAINTY, PROBABILITY)
        )
        u, p = self.x(UNCERTAINTY), self.x(PROBABILITY)
        return higher, partial_effect(self.y(outcome), u / higher, p - u * likelier / higher)

    def without_each(self, outcome: str) -> list[float]:
        """The partial effect of U given P when one held-out task is left out."""
        by_task = np.array(self.frame[f"held_out_{outcome}"].to_list())
        others = (by_task.sum(axis=1, keepdims=True) - by_task) / (by_task.shape[1] - 1)
        x, p = self.x(UNCERTAINTY), self.x(PROBABILITY)
        return [partial_effect(self.per_subset(y), x, p).value for y in others.T]

    def as_sample(self, outcome: str, *names: str) -> TaskEffects:
        """Random task effects beside predictors."""
        rows = [row for rows in self.of_subset.values() for row in rows]
        sizes = [len(rows) for rows in self.of_subset.values()]
        columns = [np.repeat(self.x(name), sizes) for name in names]
        design = with_ones(*columns) if columns else np.ones((len(rows), 1))
        return task_effects(self.frame[outcome].to_numpy()[rows], design, self.members[rows])

    def curvature(self, outcome: str) -> tuple[float, float]:
        """What squares and product add to U and P: share of what these leave, and p."""
        u, p = self.x(UNCERTAINTY), self.x(PROBABILITY)
        more = np.column_stack([u**2, p**2, u * p])
        return added(self.y(outcome), with_ones(u, p), more)

    def repeats(self, outcome: str) -> Effect | None:
        """Standard deviation of runs of one subset."""
        values = self.frame[outcome].to_numpy()
        return spread_of_repeats([values[rows].tolist() for rows in self.of_subset.values()])

    def uniform(self, outcome: str) -> Floats:
        """Of the runs whose subsets were drawn uniformly."""
        return self.frame.filter(pl.col("kind") == "uniform")[outcome].to_numpy()


def show(runs: Runs, console: Console) -> None:
    """All tables."""
    frame = runs.frame
    training, evaluation, tokens = (
        frame[name].to_numpy() for name in ("train_s", "evaluate_s", "tokens")
    )
    seconds = training + evaluation
    console.print(
        f"{frame.height} runs of {runs.n_tasks} of {runs.members.shape[1]} tasks, "
        f"{len(runs.of_subset)} subsets, on {', '.join(frame['device'].unique().sort())}; a run "
        f"took {np.median(seconds):.0f} s in the median ({np.median(training):.0f} s of them "
        f"training, {np.median(tokens):,.0f} tokens computed), all {seconds.sum() / 3600:.1f} hours"
    )
    _show_scores(runs, console)
    _show_hypothesis(runs, console)
    _show_predictors(runs, console)
    _show_limits(runs, console)


def _show_scores(runs: Runs, console: Console) -> None:
    console.print("\noutcomes on the held-out tasks")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("", "base model", "mean", "lowest", "highest", "sd, uniform draws", "sd, seed"):
        table.add_column(name, justify="right" if name else "left")
    for outcome, digits in OUTCOMES.items():
        values = runs.frame[outcome].to_numpy()
        repeats = runs.repeats(outcome)
        table.add_row(
            outcome,
            "-" if runs.base is None else f"{runs.base[outcome]:.{digits}f}",
            *(f"{each:.{digits}f}" for each in (values.mean(), values.min(), values.max())),
            f"{runs.uniform(outcome).std(ddof=1):.{digits}f}",
            "-" if repeats is None else f"{repeats.shown(digits)}",
        )
    console.print(table)


def _show_hypothesis(runs: Runs, console: Console) -> None:
    share = np.corrcoef(runs.column(UNCERTAINTY), runs.column(PROBABILITY))[0, 1]
    console.print(
        f"partial effect of U given P, per standard deviation of U (tasks: r = {share:.2f})"
    )
    for outcome, digits in OUTCOMES.items():
        effect = runs.effect(UNCERTAINTY, outcome, PROBABILITY, test=True)
        sample = runs.as_sample(outcome, UNCERTAINTY, PROBABILITY).fixed[1]
        others = runs.without_each(outcome)
        gain, p = runs.curvature(outcome)
        console.print(
            f"  {outcome}: {effect.shown(digits)}, p = {effect.p:.3f}; tasks as a sample "
            f"{sample.shown(digits)}; one held-out task left out {min(others):+.{digits}f} to "
            f"{max(others):+.{digits}f}; curvature explains {gain:.2f} of the rest, p = {p:.3f}"
        )
    higher, gain_in_score = runs.gain_of_choosing("rouge_l")
    console.print(
        f"  the {runs.n_tasks} tasks of highest U lie {higher:.1f} standard deviations above a "
        f"draw; by this model they gain {gain_in_score.shown()} ROUGE-L over one"
    )
    effect = runs.effect(UNCERTAINTY, "rouge_l", PROBABILITY)
    needed = int(np.ceil(runs.frame.height * (effect.half_width / WANTED) ** 2))
    console.print(
        f"  half width {effect.half_width:.2f} ROUGE-L; {WANTED} takes about {needed} runs, "
        f"{max(0, needed - runs.frame.height)} more"
    )


def _show_predictors(runs: Runs, console: Console) -> None:
    for outcome, digits in OUTCOMES.items():
        console.print(f"\neffects on {outcome} per standard deviation, with 95 % intervals")
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("predictor", "r with U", "alone", "given P"):
            table.add_column(name, justify="left" if name == "predictor" else "right")
        for name in runs.names:
            r = np.corrcoef(runs.column(name), runs.column(UNCERTAINTY))[0, 1]
            others = () if name == PROBABILITY else (PROBABILITY,)
            table.add_row(
                name,
                f"{r:+.2f}",
                runs.effect(name, outcome).shown(digits),
                runs.effect(name, outcome, *others).shown(digits) if others else "-",
            )
        console.print(table)


def _show_limits(runs: Runs, console: Console) -> None:
    console.print("what any rule could gain")
    for outcome, digits in OUTCOMES.items():
        effects = runs.as_sample(outcome)
        spread = runs.uniform(outcome).var(ddof=1)
        repeats = runs.repeats(outcome)
        explained = None if repeats is None else max(0.0, 1 - repeats.value**2 / spread)
        best = best_of(runs.members.shape[1], runs.n_tasks)
        console.print(
            f"  {outcome}: a single task's effect has a standard deviation of "
            f"{effects.spread:.{digits}f} [{effects.low:.{digits}f}, {effects.high:.{digits}f}], "
            f"the best {runs.n_tasks} would gain {best * effects.spread:.{digits}f} "
            f"[{best * effects.low:.{digits}f}, {best * effects.high:.{digits}f}] over random "
            "ones; the seed leaves "
            + ("-" if explained is None else f"{explained:.2f}")
            + " of the variance over uniform subsets to be explained"
        )


def draw_picture(runs: Runs, file: Path) -> None:
    """Score against U, both without what P says of them; a mark per subset."""
    p = runs.x(PROBABILITY)
    unit = spread_of_means(runs.column(UNCERTAINTY), runs.n_tasks)
    kinds = [runs.frame["kind"][rows[0]] for rows in runs.of_subset.values()]
    rows = [
        {"u": u, "y": y, "draw": kind}
        for u, y, kind in zip(
            given(runs.x(UNCERTAINTY), p).tolist(),
            given(runs.y("rouge_l"), p).tolist(),
            kinds,
            strict=True,
        )
    ]
    base = alt.Chart(alt.NamedData("runs")).encode(
        x=alt.X(
            "u:Q", title=f"mean U given P, in standard deviations of uniform draws ({unit:.3f})"
        ),
        y=alt.Y("y:Q", title="ROUGE-L given P"),
    )
    chart = alt.layer(
        base.mark_point(filled=True).encode(color=alt.Color("draw:N", title=None, sort=None)),
        base.transform_regression("u", "y").mark_line(),
    )
    write_picture(file, chart.properties(width=440, height=320), {"runs": rows})
