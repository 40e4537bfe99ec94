"""What the rounds of a shoot-out say: the analysis planned in `docs/evidence.md`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import altair as alt
import numpy as np
import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.evidence.datamodel_tables import PROBABILITY, UNCERTAINTY, Runs
from benchmarks.evidence.evidence_pools import family
from benchmarks.evidence.partial_effects import with_ones
from benchmarks.evidence.shoot_out import BASE, CONTESTANTS, EVERYTHING, N_ROUNDS, N_SEEDS
from benchmarks.evidence.task_subsets import means
from training.evaluation.bootstrap import MeanDifference, crossed_difference
from training.report.charts.picture import write_picture

OUTCOMES = {"rouge_l": ("ROUGE-L", 1), "gold_logprob": ("gold log-probability", 2)}
"""What is compared, its name and the digits it is shown with."""

RANDOM = "random"
HIGH_U = ("prompt_uncertainty", "uncertainty_given_probability", "ambiguous")
"""The strategies that look for high prompt uncertainty."""

LAST = N_ROUNDS - 1
TRAINED = 3
"""What a trained token costs in scored ones: its gradients take twice what its output takes."""


class Curves:
    """What became of every contestant after every round, over its seeds.

    Args:
        records: As `benchmarks.evidence.shoot_out.ShootOut` makes them.
        outcome: One of `OUTCOMES`.

    Attributes:
        names: The contestants that have rounds beside random ones of the same seed.
    """

    def __init__(self, records: Sequence[Mapping[str, Any]], outcome: str) -> None:
        self.by_place = {
            (each["contestant"], each["round"], each["seed"]): each for each in records
        }
        self.outcome = outcome
        self.names = [name for name in CONTESTANTS if self.seeds(name, 0)]

    def seeds(self, name: str, index: int) -> list[int]:
        """Those that have got so far, and random tasks with them."""
        known = [{s for n, i, s in self.by_place if (n, i) == (of, index)} for of in (name, RANDOM)]
        return sorted(known[0] if name in (BASE, EVERYTHING) else known[0] & known[1])

    def common(self, names: Sequence[str], rounds: Sequence[int]) -> list[int]:
        """The seeds that have all of these."""
        return sorted(
            set.intersection(*({*self.seeds(name, at)} for name in names for at in rounds))
        )

    def mean(self, name: str, index: int) -> float:
        """Over seeds and held-out tasks."""
        seeds = self.seeds(name, index)
        return fmean(fmean(self.by_place[name, index, seed][self.outcome]) for seed in seeds)

    def chosen(self, name: str, index: int) -> list[list[str]]:
        """The tasks up to a round, of each seed: of a map category there may be too few."""
        return [self.by_place[name, index, seed]["tasks"] for seed in self.seeds(name, index)]

    def tokens(self, name: str, index: int) -> float:
        """All scorings up to a round, and the trainings they need: mean of seeds, in scored tokens.

        Who scores needs the weights of every round; who does not, those of the last alone.
        """
        rounds = range(index + 1)
        scores = name in CONTESTANTS and CONTESTANTS[name].asks != "nothing"
        return fmean(
            sum(self.by_place[name, at, seed]["scoring_tokens"] for at in rounds)
            + TRAINED
            * sum(
                self.by_place[name, at, seed]["training_tokens"]
                for at in (rounds if scores else [index])
            )
            for seed in self.seeds(name, index)
        )

    def less_random(self, names: Sequence[str], rounds: Sequence[int]) -> MeanDifference | None:
        """The mean of contestants and rounds less that of random tasks, paired by seed and held-out
        task; of the seeds that have all of them.
        """
        some = [(name, at) for name in names for at in rounds]
        random = [(RANDOM, at) for at in rounds]
        label = "/".join([*names, *map(str, rounds), self.outcome])
        return self._less(some, random, self.common(names, rounds), label)

    def everything_less(self, names: Sequence[str]) -> MeanDifference | None:
        """The same of a training on all tasks, less the mean of contestants' last rounds."""
        seeds = sorted({*self.common(names, [LAST])} & {*self.seeds(EVERYTHING, 0)})
        others = [(name, LAST) for name in names]
        return self._less([(EVERYTHING, 0)], others, seeds, f"{EVERYTHING}/{self.outcome}")

    def _less(
        self,
        some: Sequence[tuple[str, int]],
        others: Sequence[tuple[str, int]],
        seeds: list[int],
        label: str,
    ) -> MeanDifference | None:
        """The mean of some rounds less that of others; the label seeds its interval."""
        moves = []
        for seed in seeds:
            mine, theirs = (
                np.mean([self.by_place[name, at, seed][self.outcome] for name, at in of], axis=0)
                for of in (some, others)
            )
            moves.append((mine - theirs).tolist())
        return crossed_difference(moves, label) if moves else None


def show(
    records: Sequence[Mapping[str, Any]], console: Console, of_family: str | None = None
) -> None:
    """The planned difference, learning curves, what each strategy chose and what it took.

    Args:
        of_family: A family of tasks whose share in what was chosen is told, too.
    """
    seconds = sum(each["seconds"] for each in records)
    devices = ", ".join(sorted({each["device"] for each in records}))
    console.print(f"{len(records)} rounds on {devices}, {seconds / 3600:.1f} hours in all\n")
    for outcome in OUTCOMES:
        _show(Curves(records, outcome), console, of_family)
    console.print(
        f"all rounds: their mean, less random; tokens: of scoring, and {TRAINED} times those of "
        "training, in thousands; gain: of the score over the base model's, per thousand\n"
    )


def _show(curves: Curves, console: Console, of_family: str | None) -> None:
    title, digits = OUTCOMES[curves.outcome]
    console.print(f"{title} on the held-out tasks")
    high = [name for name in HIGH_U if name in curves.names]
    if high and (less := curves.less_random(high, range(N_ROUNDS))):
        n_seeds = len(curves.common(high, range(N_ROUNDS)))
        tested = "not tested"
        if curves.outcome == "rouge_l" and len(high) == len(HIGH_U):
            tested = f"p = {less.p:.3f}" if n_seeds >= N_SEEDS else f"no test before {N_SEEDS}"
        console.print(
            f"mean of {len(high)} strategies that look for high U and of {N_ROUNDS} rounds, less "
            f"random, {n_seeds} seeds: {_interval(less, digits)} ({tested})"
        )
    if high and (more := curves.everything_less(high)):
        console.print(
            f"all tasks, less the last round of these strategies: {_interval(more, digits)} "
            "(looked at afterwards)"
        )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("chosen by", "tasks", *([of_family] if of_family else []), "different",
                    "seeds", "score", "less random", "all rounds", "tokens", "gain"):  # fmt: skip
        table.add_column(
            heading, justify="left" if heading == "chosen by" else "right", no_wrap=True
        )
    for name, rounds in (
        (BASE, [0]),
        (EVERYTHING, [0]),
        *((n, range(N_ROUNDS)) for n in curves.names),
    ):
        for index in rounds:
            if curves.seeds(name, index):
                table.add_row(*_row(curves, name, index, of_family))
    console.print(table)


def _row(curves: Curves, name: str, index: int, of_family: str | None) -> list[str]:
    _, digits = OUTCOMES[curves.outcome]
    chosen, tokens = curves.chosen(name, index), curves.tokens(name, index)
    score = curves.mean(name, index)
    aside = name in (BASE, EVERYTHING, RANDOM)
    less = None if aside else curves.less_random([name], [index])
    rounds = curves.less_random([name], range(N_ROUNDS)) if not aside and index == LAST else None
    base = curves.seeds(BASE, 0)
    gain = (score - curves.mean(BASE, 0)) / tokens if base and tokens else None
    alike = fmean(sum(family(task) == of_family for task in tasks) for tasks in chosen)
    return [
        name,
        f"{fmean(map(len, chosen)):.3g}",
        *([f"{alike:.3g}"] if of_family else []),
        str(len({task for tasks in chosen for task in tasks})),
        str(len(chosen)),
        f"{score:.{digits}f}",
        _interval(less, digits) if less else "-",
        _interval(rounds, digits) if rounds else "-",
        f"{tokens / 1e3:,.0f}",
        "-" if gain is None else f"{1e3 * gain:.{digits + 2}f}",
    ]


def _interval(found: MeanDifference, digits: int) -> str:
    value, low, high = (f"{each:+.{digits}f}" for each in found[:3])
    return f"{value} [{low}, {high}]"


def as_runs(records: Sequence[Mapping[str, Any]], n_tasks: int) -> pl.DataFrame:
    """The last rounds as runs of a datamodel: those that trained on so many tasks."""
    rows: list[dict[str, Any]] = []
    for each in records:
        if len(each["tasks"]) == n_tasks:
            about = {"run": 1_000_000 + len(rows), "kind": each["contestant"]}
            tasks = sorted(each["tasks"])
            means = {name: fmean(each[name]) for name in OUTCOMES}
            rows.append({**about, "tasks": tasks, **means})
    return pl.DataFrame(rows)


def show_together(
    records: Sequence[Mapping[str, Any]],
    runs: pl.DataFrame,
    predictors: pl.DataFrame,
    console: Console,
) -> None:
    """The partial effect of U given P with the last rounds as further runs of the datamodel.

    Strategies come back to the same tasks, so what a task does by itself is let vary (or, where
    most tasks are of one family, that family's share).

    Args:
        runs: As `benchmarks.datamodel` stores them: of the same pool, trainings and held-out
            instances.
        predictors: See `benchmarks.evidence.datamodel_tables.Runs`.
    """
    before = runs.filter(pl.col("run") >= 0)
    n_tasks = len(before["tasks"][0])
    more = as_runs(records, n_tasks)
    if more.is_empty():
        return
    old = before.select(more.columns).with_columns(pl.col("tasks").list.sort())
    both = Runs(pl.concat([old, more], how="vertical_relaxed"), predictors)
    console.print(
        f"partial effect of U given P over {old.height} runs of the datamodel and {more.height} "
        f"last rounds, {len(both.of_subset)} subsets, per standard deviation of U (the intervals "
        "take runs of one seed, which share instances, and subsets, which share tasks, for "
        "independent)"
    )
    for outcome, (title, digits) in OUTCOMES.items():
        if both.large_family:
            effect, beside = both.beside_family(outcome, both.large_family), "beside its family"
        else:
            effect = both.as_sample(outcome, UNCERTAINTY, PROBABILITY).fixed[1]
            beside = "tasks as a sample"
        console.print(f"  {title}, {beside}: {effect.shown(digits + 1)}")
    only = Runs(old, predictors)
    console.print(
        f"\n{n_tasks} tasks less random ones, by the plane of U and P over {old.height} runs"
    )
    for outcome, (title, digits) in OUTCOMES.items():
        curves = Curves(records, outcome)
        known = {name: _by_the_plane(only, curves, name) for name in curves.names}
        expected = {name: value for name, value in known.items() if not math.isnan(value)}
        if RANDOM not in expected:
            continue
        said = ", ".join(
            f"{name} {value - expected[RANDOM]:+.{digits}f} "
            f"(it is {curves.mean(name, LAST) - curves.mean(RANDOM, LAST):+.{digits}f})"
            for name, value in expected.items()
            if name != RANDOM
        )
        console.print(f"  {title}: {said}")


def _by_the_plane(runs: Runs, curves: Curves, name: str) -> float:
    """What U and P of the tasks that a contestant ended with say of its outcome, in the mean."""
    columns = [runs.column(each) for each in (UNCERTAINTY, PROBABILITY)]
    design = with_ones(*(runs.x(each) for each in (UNCERTAINTY, PROBABILITY)))
    _, *slopes = np.linalg.lstsq(design, runs.y(curves.outcome), rcond=None)[0]
    places = {task_id: at for at, task_id in enumerate(runs.predictors["task_id"])}
    last = [tasks for tasks in curves.chosen(name, LAST) if len(tasks) == runs.n_tasks]
    if not last:  # of a map category there may be too few
        return math.nan
    ended = [tuple(places[task_id] for task_id in tasks) for tasks in last]
    moved = [slope * means(ended, column) for slope, column in zip(slopes, columns, strict=True)]
    return float(np.mean(np.sum(moved, axis=0)))


_ROWS = alt.NamedData("rows")


def draw_curves(records: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Of each strategy the score after each round less that of random tasks: seeds, their mean and
    its interval.
    """
    rows: list[dict[str, Any]] = []
    for outcome, (title, _) in OUTCOMES.items():
        curves = Curves(records, outcome)
        for name in curves.names:
            for index in range(N_ROUNDS):
                less = None if name == RANDOM else curves.less_random([name], [index])
                if less is None:
                    continue
                n_tasks = fmean(map(len, curves.chosen(name, index)))
                about = {"outcome": title, "strategy": name.replace("_", " "), "tasks": n_tasks}
                rows.append({**about, "less": less.value, "low": less.low, "high": less.high})
                for seed in curves.seeds(name, index):
                    mine, random = (
                        fmean(curves.by_place[of, index, seed][outcome]) for of in (name, RANDOM)
                    )
                    rows.append({**about, "of_seed": mine - random, "seed": seed})
    panels = []
    for title, _ in OUTCOMES.values():
        base = alt.Chart().encode(x=alt.X("tasks:Q", title="tasks"))
        y = alt.Y("less:Q", title=None)
        of_seeds = base.transform_filter("isValid(datum.of_seed)").encode(detail="seed:N")
        seeds = of_seeds.mark_line(opacity=0.35, strokeWidth=1).encode(y="of_seed:Q")
        means = base.transform_filter("isValid(datum.less)").encode(y=y)
        bars = base.mark_rule(strokeWidth=2).encode(y=alt.Y("low:Q"), y2="high:Q")
        zero = alt.Chart().mark_rule(strokeDash=[3, 3]).encode(y=alt.datum(0))
        panels.append(
            alt.layer(zero, seeds, bars, means.mark_line(point=True, strokeWidth=2))
            .properties(width=130, height=110)
            .transform_filter(f"datum.outcome == '{title}'")
            .facet(alt.Facet("strategy:N", title=None, sort=None), columns=5, data=_ROWS)
            .properties(title=f"{title}, less random tasks")
        )
    write_picture(file, alt.vconcat(*panels), {"rows": rows})


def draw_map(records: Sequence[Mapping[str, Any]], file: Path) -> None:
    """What each strategy chose on the task map of its own round, of those that measure U."""
    rows = []
    for each in records:
        contestant = CONTESTANTS.get(each["contestant"])
        if contestant is None or contestant.asks != "pairs":
            continue
        scores = each["scores"]
        columns = ("task_id", UNCERTAINTY, PROBABILITY)
        for task_id, u, p in zip(*(scores[name] for name in columns), strict=True):
            taken = task_id in each["tasks"]
            rows.append(
                {
                    "strategy": each["contestant"].replace("_", " "),
                    "round": f"chosen in round {each['round'] + 1}" if taken else "not chosen",
                    "u": u,
                    "p": p,
                }
            )
    rounds = [f"chosen in round {index + 1}" for index in range(N_ROUNDS)]
    base = alt.Chart().encode(
        x=alt.X("p:Q", title="P", scale=alt.Scale(zero=False)), y=alt.Y("u:Q", title="U")
    )
    left = base.transform_filter("datum.round == 'not chosen'").mark_point(
        filled=True, size=6, opacity=0.25, color="grey"
    )
    taken = base.transform_filter("datum.round != 'not chosen'").mark_point(filled=True, size=22)
    chart = alt.layer(left, taken.encode(color=alt.Color("round:N", title=None, sort=rounds)))
    chart = chart.properties(width=170, height=140)
    facet = chart.facet(alt.Facet("strategy:N", title=None, sort=None), columns=3, data=_ROWS)
    write_picture(file, facet, {"rows": rows})
