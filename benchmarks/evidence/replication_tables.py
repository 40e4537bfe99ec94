"""What the rounds of a shoot-out say: the analysis planned in `docs/evidence.md`."""

from __future__ import annotations

from collections import Counter
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
from benchmarks.evidence.shoot_out import BASE, CONTESTANTS, N_ROUNDS
from training.evaluation.bootstrap import MeanDifference, crossed_difference
from training.report.charts.picture import write_picture

OUTCOMES = {"rouge_l": ("ROUGE-L", 1), "gold_logprob": ("log-probability of gold tokens", 3)}
"""What is compared, its name and the digits it is shown with."""

RANDOM = "random"
HIGH_U = (
    "prompt_uncertainty",
    "ranking_estimate",
    "uncertainty_given_probability",
    "ambiguous",
)
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
        names: The contestants that have rounds.
    """

    def __init__(self, records: Sequence[Mapping[str, Any]], outcome: str) -> None:
        self.by_place = {
            (each["contestant"], each["round"], each["seed"]): each for each in records
        }
        self.outcome = outcome
        known = {each["contestant"] for each in records}
        self.names = [name for name in CONTESTANTS if name in known]

    def seeds(self, name: str, index: int) -> list[int]:
        """Those that have got so far."""
        return sorted(s for n, i, s in self.by_place if (n, i) == (name, index))

    def mean(self, name: str, index: int) -> float:
        """Over seeds and held-out tasks."""
        seeds = self.seeds(name, index)
        return fmean(fmean(self.by_place[name, index, seed][self.outcome]) for seed in seeds)

    def n_tasks(self, name: str, index: int) -> float:
        """Chosen up to a round, mean over seeds: of a map category there may be too few."""
        return fmean(
            len(self.by_place[name, index, seed]["tasks"]) for seed in self.seeds(name, index)
        )

    def tokens(self, name: str, index: int) -> float:
        """All scorings up to a round, and the trainings they need: mean of seeds, in scored tokens.

        Who scores needs the weights of every round; who does not, those of the last alone.
        """
        rounds = range(index + 1)
        trained = rounds if CONTESTANTS[name].asks != "nothing" else [index]
        return fmean(
            sum(self.by_place[name, at, seed]["scoring_tokens"] for at in rounds)
            + TRAINED * sum(self.by_place[name, at, seed]["training_tokens"] for at in trained)
            for seed in self.seeds(name, index)
        )

    def less_random(self, names: Sequence[str], rounds: Sequence[int]) -> MeanDifference | None:
        """The mean of contestants and rounds less that of random tasks, paired by seed and held-out
        task; of the seeds that have all of them.
        """
        seeds = [
            {*self.seeds(name, index)} for name in (*names, RANDOM) for index in rounds
        ]  # fmt: skip
        moves = []
        for seed in sorted(set.intersection(*seeds)):
            mine, random = (
                np.mean(
                    [
                        self.by_place[name, index, seed][self.outcome]
                        for name in of
                        for index in rounds
                    ],
                    axis=0,
                )
                for of in (names, [RANDOM])
            )
            moves.append((mine - random).tolist())
        name = "/".join([*names, *map(str, rounds), self.outcome])
        return crossed_difference(moves, name) if moves else None


def holm(ps: Mapping[str, float]) -> dict[str, float]:
    """Several p, raised so that any false finding among them is as rare as one (Holm, 1979)."""
    adjusted, largest = {}, 0.0
    for at, (name, p) in enumerate(sorted(ps.items(), key=lambda each: each[1])):
        largest = max(largest, min(1.0, (len(ps) - at) * p))
        adjusted[name] = largest
    return adjusted


def show(records: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Learning curves, paired differences from random ones, and what a token brought."""
    seconds = sum(each["seconds"] for each in records)
    devices = ", ".join(sorted({each["device"] for each in records}))
    console.print(f"{len(records)} rounds on {devices}, {seconds / 3600:.1f} hours in all\n")
    for outcome in OUTCOMES:
        _show(Curves(records, outcome), console)
    console.print(
        f"tokens: scored ones and {TRAINED} times those trained on; p: of the last round, by "
        "Holm's rule over all strategies; per million: what a million tokens more than random's "
        "brought"
    )


def _show(curves: Curves, console: Console) -> None:
    title, digits = OUTCOMES[curves.outcome]
    console.print(f"{title} on the held-out tasks, and less random tasks of the same seed")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("chosen by", "tasks", "seeds", "score", "less random", "p", "tokens"):
        table.add_column(heading, justify="left" if heading == "chosen by" else "right")
    table.add_column("per million", justify="right")
    found = {
        (name, index): curves.less_random([name], [index])
        for name in curves.names
        for index in range(N_ROUNDS)
        if name != RANDOM
    }
    ps = holm({name: each.p for (name, index), each in found.items() if each and index == LAST})
    if curves.seeds(BASE, 0):
        table.add_row("(base model)", "0", "-", f"{curves.mean(BASE, 0):.{digits}f}", *4 * ["-"])
    for name in curves.names:
        for index in range(N_ROUNDS):
            if not (seeds := curves.seeds(name, index)):
                continue
            less, tokens = found.get((name, index)), curves.tokens(name, index)
            more = tokens - curves.tokens(RANDOM, index) if less else 0.0
            table.add_row(
                name,
                f"{curves.n_tasks(name, index):.3g}",
                str(len(seeds)),
                f"{curves.mean(name, index):.{digits}f}",
                _interval(less, digits) if less else "-",
                f"{ps[name]:.3f}" if less and index == LAST else "-",
                f"{tokens:,.0f}",
                _interval(less, digits, 1e6 / more) if less and more > 0 else "-",
            )
    console.print(table)
    high = [name for name in HIGH_U if name in curves.names]
    together = {name: [name] for name in curves.names if name != RANDOM}
    console.print(f"{title}, mean of the {N_ROUNDS} rounds, less random")
    for name, of in (together | {f"mean of {len(high)} that look for high U": high}).items():
        if of and (less := curves.less_random(of, range(N_ROUNDS))):
            console.print(f"  {name}: {_interval(less, digits)}")
    console.print()


def _interval(found: MeanDifference, digits: int, times: float = 1.0) -> str:
    value, low, high = (f"{times * each:+.{digits}f}" for each in found[:3])
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
        f"last rounds, {len(both.of_subset)} subsets"
    )
    for outcome, (title, digits) in OUTCOMES.items():
        effect = both.effect(UNCERTAINTY, outcome, PROBABILITY)
        console.print(f"  {title}: {effect.shown(digits + 1)} per standard deviation of U")


def draw_curves(records: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Of each strategy the score after each round beside that of random tasks."""
    rows: list[dict[str, Any]] = []
    for outcome, (title, _) in OUTCOMES.items():
        curves = Curves(records, outcome)
        for name in curves.names:
            for index in range(N_ROUNDS):
                if name == RANDOM or not (less := curves.less_random([name], [index])):
                    continue
                random = curves.mean(RANDOM, index)
                about = {
                    "outcome": title,
                    "strategy": name.replace("_", " "),
                    "tasks": curves.n_tasks(RANDOM, index),
                }
                ends = {"low": random + less.low, "high": random + less.high}
                rows += [
                    {**about, "of": "this strategy", "score": curves.mean(name, index), **ends},
                    {**about, "of": RANDOM, "score": random},
                ]
    panels = []
    for title, _ in OUTCOMES.values():
        base = alt.Chart(alt.NamedData("rows")).encode(x=alt.X("tasks:Q", title="tasks"))
        scale = alt.Scale(zero=False)
        colour = alt.Color("of:N", title=None, sort=["this strategy", RANDOM])
        lines = base.mark_line(point=True).encode(
            y=alt.Y("score:Q", title=title, scale=scale), color=colour
        )
        bars = base.mark_rule().encode(y=alt.Y("low:Q", scale=scale), y2="high:Q")
        panels.append(
            alt.layer(bars, lines)
            .properties(width=130, height=110)
            .transform_filter(f"datum.outcome == '{title}'")
            .facet(alt.Facet("strategy:N", title=None, sort=None), columns=4)
        )
    write_picture(file, alt.vconcat(*panels), {"rows": rows})


def draw_map(
    records: Sequence[Mapping[str, Any]], predictors: pl.DataFrame, file: Path
) -> None:  # fmt: skip
    """The task map of the base model, one for each strategy: how often a task was chosen."""
    known = predictors.select("task_id", UNCERTAINTY, PROBABILITY).to_dicts()
    rows = []
    for name in Curves(records, "rouge_l").names:
        last = [each for each in records if (each["contestant"], each["round"]) == (name, LAST)]
        chosen = Counter(task for each in last for task in each["tasks"])
        for task in known if last else ():
            share = chosen[task["task_id"]] / len(last)
            rows.append({"strategy": name.replace("_", " "), "share": share, **task})
    chart = (
        alt.Chart(alt.NamedData("rows"))
        .mark_point(filled=True)
        .encode(
            x=alt.X(f"{PROBABILITY}:Q", title="P"),
            y=alt.Y(f"{UNCERTAINTY}:Q", title="U"),
            color=alt.Color("share:Q", title="share of seeds", scale=alt.Scale(domain=[0, 1])),
            size=alt.Size("share:Q", legend=None, scale=alt.Scale(range=[12, 70])),
        )
        .properties(width=130, height=110)
        .facet(alt.Facet("strategy:N", title=None, sort=None), columns=4)
    )
    write_picture(file, chart, {"rows": rows})
