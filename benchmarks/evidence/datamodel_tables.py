"""What the runs of a datamodel say: the analysis planned in `docs/evidence.md`."""

from __future__ import annotations

import numpy as np
import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.evidence.evidence_pools import family, large_family
from benchmarks.evidence.partial_effects import (
    Effect,
    TaskEffects,
    added,
    best_of,
    left_to_explain,
    of_sample,
    partial_effect,
    spread_of_repeats,
    task_effects,
    with_ones,
)
from benchmarks.evidence.task_subsets import Floats, means

UNCERTAINTY, PROBABILITY = "prompt_uncertainty", "prediction_probability"
OUTCOMES = {"rouge_l": 2, "gold_logprob": 3}
"""What is predicted, and the digits it is shown with."""

WANTED = 0.5
"""Half width of the interval that is aimed at, in ROUGE-L per standard deviation, and the effect
that would be worth a choice."""

BASE, CONSTANT = -1, -2
"""Numbers of what stands beside the runs: the base model, the best constant answer to each task."""


class Runs:
    """The runs of a datamodel, and the predictors of its tasks.

    Args:
        runs: As `benchmarks.datamodel` stores them, `BASE` and `CONSTANT` among them.
        predictors: `task_id` and one column per predictor, tasks in the pool's order.

    Attributes:
        frame: The runs without the base model's.
        beside: Outcomes of what stands beside the runs, by number.
        missing: Of each predictor that is not known of all tasks, of how many it is.
        members: Share of each task in each run.
        of_subset: Rows of the runs of each subset.
    """

    def __init__(self, runs: pl.DataFrame, predictors: pl.DataFrame) -> None:
        self.frame = runs.filter(pl.col("run") >= 0).sort("run")
        if "held_out" in runs.columns and self.frame["held_out"].n_unique() > 1:
            raise SystemExit("the runs were evaluated on different tasks, or in different order")
        self.beside = {
            row["run"]: row for row in runs.filter(pl.col("run") < 0).iter_rows(named=True)
        }
        self.predictors = predictors
        known = predictors.select(pl.exclude("task_id").cast(pl.Float64).is_finite().sum())
        self.missing = {
            name: count for name, count in known.row(0, named=True).items()
            if count < predictors.height
        }  # fmt: skip
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
        """Of the predictors that are known of all tasks, and differ."""
        return [
            name
            for name in self.predictors.columns
            if name not in self.missing and self.predictors[name].n_unique() > 1
            if name != "task_id"
        ]

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

    def by_held_out(self, outcome: str) -> dict[str, Floats]:
        """The outcome of every run on each family of held-out tasks: its sum over their number."""
        table = np.array(self.frame[f"held_out_{outcome}"].to_list())
        families = [family(task_id) for task_id in self.frame["held_out"][0]]
        return {
            name: table[:, [at for at, each in enumerate(families) if each == name]]
            for name in dict.fromkeys(families)
        }

    def without_each(self, outcome: str) -> list[float]:
        """The partial effect of U given P when one family of held-out tasks is left out."""
        parts = self.by_held_out(outcome)
        x, p = self.x(UNCERTAINTY), self.x(PROBABILITY)
        rest = (
            np.hstack([part for name, part in parts.items() if name != left]).mean(axis=1)
            for left in parts
        )
        return [partial_effect(self.per_subset(y), x, p).value for y in rest]

    def held_out_as_sample(self, outcome: str) -> Effect:
        """The same effect, if the families of held-out tasks are a sample of all there are."""
        x, p = self.x(UNCERTAINTY), self.x(PROBABILITY)
        parts = self.by_held_out(outcome).values()
        return of_sample(
            [partial_effect(self.per_subset(part.mean(axis=1)), x, p).value for part in parts]
        )

    def where_constants_fail(self, outcome: str) -> tuple[int, float, float, Effect] | None:
        """The held-out tasks on which the best constant answer does worse than in the mean: their
        number, what that answer and the mean run have there, and the effect on them alone; none
        where no constant answers were given.
        """
        beside = self.beside.get(CONSTANT, {})
        values = beside.get(f"held_out_{outcome}") or ()
        of_task = dict(zip(beside.get("held_out", ()), values, strict=bool(values)))
        constant = np.array([of_task.get(name) for name in self.frame["held_out"][0]], float)
        if np.isnan(constant).any():
            return None
        hard = constant < constant.mean()
        y = np.array(self.frame[f"held_out_{outcome}"].to_list())[:, hard].mean(axis=1)
        effect = partial_effect(self.per_subset(y), self.x(UNCERTAINTY), self.x(PROBABILITY))
        return int(hard.sum()), float(constant[hard].mean()), float(y.mean()), effect

    def beside_each_task(self, outcome: str) -> list[float]:
        """The same effect beside the share of each task of the pool in turn."""
        x, p, y = self.x(UNCERTAINTY), self.x(PROBABILITY), self.y(outcome)
        rows = [rows[0] for rows in self.of_subset.values()]
        shares = self.members[rows].T
        return [partial_effect(y, x, p, each).value for each in shares if each.std() > 0]

    @property
    def large_family(self) -> str | None:
        return large_family(self.predictors["task_id"])

    def beside_family(self, outcome: str, name: str) -> Effect:
        """The same effect beside the share of a family."""
        belongs = np.array([float(family(each) == name) for each in self.predictors["task_id"]])
        share = means(list(self.of_subset), belongs)
        return partial_effect(self.y(outcome), self.x(UNCERTAINTY), self.x(PROBABILITY), share)

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

    def left_to_explain(self, outcome: str) -> Effect | None:
        """See `benchmarks.evidence.partial_effects.left_to_explain`; none without repeats."""
        degrees = self.frame.height - len(self.of_subset)
        repeats = self.repeats(outcome)
        return repeats and left_to_explain(repeats, degrees, self.uniform(outcome))

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
    for name in (
        "",
        "constant",
        "base model",
        "mean",
        "lowest",
        "highest",
        "sd, uniform draws",
        "sd, seed",
    ):
        table.add_column(name, justify="right" if name else "left")
    for outcome, digits in {**OUTCOMES, "exact_match": 2}.items():
        values = runs.frame[outcome].to_numpy()
        repeats = runs.repeats(outcome)
        table.add_row(
            outcome,
            *(
                _shown(runs.beside.get(which, {}).get(outcome), digits)
                for which in (CONSTANT, BASE)
            ),
            *(f"{each:.{digits}f}" for each in (values.mean(), values.min(), values.max())),
            f"{runs.uniform(outcome).std(ddof=1):.{digits}f}",
            "-" if repeats is None else repeats.shown(digits).replace("+", ""),
        )
    console.print(table)


def _shown(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _show_hypothesis(runs: Runs, console: Console) -> None:
    share = np.corrcoef(runs.column(UNCERTAINTY), runs.column(PROBABILITY))[0, 1]
    console.print(
        f"partial effect of U given P, per standard deviation of U (tasks: r = {share:.2f})"
    )
    for outcome, digits in OUTCOMES.items():
        effect = runs.effect(UNCERTAINTY, outcome, PROBABILITY, test=True)
        gain, p = runs.curvature(outcome)
        out, beside = runs.without_each(outcome), runs.beside_each_task(outcome)
        said = verdict(effect, WANTED if outcome == "rouge_l" else None)
        console.print(f"  {outcome}: {effect.shown(digits)}, p = {effect.p:.3f}: {said}")
        if family_name := runs.large_family:
            shown = runs.beside_family(outcome, family_name).shown(digits)
            console.print(f"    beside the share of {family_name}: {shown}")
        else:
            sample = runs.as_sample(outcome, UNCERTAINTY, PROBABILITY).fixed[1]
            console.print(f"    tasks as a sample: {sample.shown(digits)}")
        sample = runs.held_out_as_sample(outcome)
        console.print(
            f"    held-out tasks as a sample: {sample.shown(digits)}; one left out: "
            f"{_range(out, digits)}; beside the share of any one task: {_range(beside, digits)}\n"
            f"    curvature explains {gain:.2f} of the rest, p = {p:.3f}"
        )
        if hard := runs.where_constants_fail(outcome):
            number, constant, mean, effect = hard
            console.print(
                f"    on the {number} held-out tasks where constant answers do worse than in the "
                f"mean ({constant:.{digits}f}; the runs {mean:.{digits}f}): {effect.shown(digits)}"
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


def verdict(effect: Effect, useful: float | None = None) -> str:
    """By the rule of the plan: the interval decides.

    Args:
        useful: An effect below which choosing is not worth it, where the plan names one.
    """
    if effect.low > 0:
        return "above 0"
    if effect.high < 0:
        return "below 0"
    return "null" if useful is None or effect.high >= useful else f"useless (null, below {useful})"


def _range(values: list[float], digits: int) -> str:
    return f"{min(values):+.{digits}f} to {max(values):+.{digits}f}"


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
    for name, count in runs.missing.items():
        console.print(f"{name} is known of {count} of {runs.predictors.height} tasks: left out")


def _show_limits(runs: Runs, console: Console) -> None:
    console.print("what any rule could gain, if effects of tasks add up and are normal")
    for outcome, digits in OUTCOMES.items():
        effects = runs.as_sample(outcome)
        explained = runs.left_to_explain(outcome)
        best = best_of(runs.members.shape[1], runs.n_tasks)
        console.print(
            f"  {outcome}: a single task's effect has a standard deviation of "
            f"{effects.spread:.{digits}f} [{effects.low:.{digits}f}, {effects.high:.{digits}f}]"
        )
        if not runs.large_family:
            console.print(
                f"    the best {runs.n_tasks} would gain {best * effects.spread:.{digits}f} over "
                f"random ones [{best * effects.low:.{digits}f}, {best * effects.high:.{digits}f}]"
            )
        if explained:
            console.print(
                f"    of the variance over uniform subsets {explained.shown().replace('+', '')} is "
                "not that of the seed"
            )
