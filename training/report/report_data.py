"""What the records of a run say, as the page takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from engine.files import read_json
from engine.tasks import Task
from engine.variance.overlap import expected_overlap, in_words
from engine.variance.rank_intervals import rank_intervals
from training.evaluation.evaluator import Evaluation
from training.report.scorings import (
    Scoring,
    borders,
    largest_uncertainty,
    numbers_of,
    regions,
)
from training.run.run_folder import RunFolder
from training.run.state import RunState, RunStep
from training.run.summary import BeforeMetrics, RoundMetrics

Rows = list[dict[str, Any]]

COLUMNS = {
    "prompt_uncertainty": "U",
    "standard_error": "standard error",
    "noise_floor": "noise floor",
    "prediction_probability": "P",
    "perplexity": "perplexity",
    "flip_rate": "flip rate",
    "ranking_estimate": "ranking estimate",
    "output_disagreement": "output disagreement",
    "label_bald": "label BALD",
    "instruction_following_difficulty": "instruction difficulty",
    "map_stability": "stable",
}
"""Columns of scores that are shown where they are there, with what they are called."""

_STEPS = {RunStep.SCORE: "score", RunStep.TRAIN: "fine-tune", RunStep.EVALUATE: "evaluate"}
_MOST_RANKS = 40

_PAGE_MAP = (620, 440)
"""Width and height of the map in a wide window, about."""


def task_columns(
    scorings: Sequence[Scoring], tasks: Mapping[str, Task]
) -> dict[str, list[str | None]]:
    """`id`, `category` and `definition` of all tasks of some scorings, in order of appearance."""
    known: dict[str, tuple[str | None, str | None]] = {}
    for each in scorings:
        for row in each.table.iter_rows(named=True):
            if row["task_id"] not in known:
                task = tasks.get(row["task_id"])
                category = task.category if task else row.get("category")
                known[row["task_id"]] = category, task.definition if task else row.get("definition")
    category, definition = map(list, zip(*known.values(), strict=True))
    return {"id": list(known), "category": category, "definition": definition}


def round_data(scorings: Sequence[Scoring], task_ids: Sequence[str | None]) -> Rows:
    """Every scoring, its columns in the order of `task_ids` with null where there is no score."""
    order = pl.DataFrame({"task_id": task_ids}, schema={"task_id": pl.String})
    places = {task_id: place for place, task_id in enumerate(task_ids)}
    top = 1.08 * largest_uncertainty(scorings)
    rounds = []
    for each in scorings:
        table = order.join(each.table, on="task_id", how="left", maintain_order="left")
        shown = [name for name in COLUMNS if name in table.columns and table[name].count()]
        numbers = numbers_of(each, top, _PAGE_MAP)
        rounds.append(
            {
                "name": each.name,
                "top": top,
                "borders": [borders(each.thresholds)],
                "regions": regions(each.thresholds, top),
                "numbers": {places[name]: mark for name, mark in numbers.items()},
                "category": table["map_category"].to_list(),
                "selected": [places[task_id] for task_id in each.selected],
                "values": {name: _rounded(table[name]) for name in shown},
                "ranks": rank_rows(each),
            }
        )
    return rounds


def _rounded(column: pl.Series) -> list[float | None]:
    """Six significant digits; what is no finite number is null."""
    finite = pl.when(column.is_finite()).then(column.cast(pl.Float64).round_sig_figs(6))
    return pl.select(finite).to_series().to_list()


def rank_rows(scoring: Scoring) -> dict[str, Any] | None:
    """Ranks of the selected tasks and as many more, and how much a repeat would select again.

    None unless the selection is that of the largest prompt uncertainties, or of the estimates of a
    race, with standard errors.
    """
    for value, error in (
        ("prompt_uncertainty", "standard_error"),
        ("ranking_estimate", "ranking_error"),
    ):
        if not {value, error} <= set(scoring.table.columns):
            continue
        table = scoring.table.drop_nulls([value, error]).sort(value, descending=True)
        n = len(scoring.selected)
        if n and set(table["task_id"][:n]) == set(scoring.selected) and table.height > n:
            break
    else:
        return None
    u, s = table[value].to_numpy(), table[error].to_numpy()
    shrunk = value == "ranking_estimate"
    low, high = rank_intervals(u, s, shrunk=shrunk)
    rows = [
        {
            "task": task_id,
            "rank": rank,
            "low": int(low[rank - 1]),
            "high": int(high[rank - 1]),
            "group": "selected" if rank <= n else "next in rank",
        }
        for rank, task_id in enumerate(table["task_id"][: min(2 * n, n + _MOST_RANKS)], 1)
    ]
    words = in_words(expected_overlap(u, s, n, shrunk=shrunk), n, len(u))
    return {"rows": rows, "cut": [{"rank": n + 0.5}], "words": words}


def curve_rows(folder: RunFolder, run: str = "") -> Rows:
    """ROUGE-L and exact match after every round, with their intervals over held-out tasks."""
    rows = []
    for trained, evaluation in evaluations(folder).values():
        overall = evaluation.overall
        for metric, value, interval in (
            ("ROUGE-L", overall.rouge_l, overall.rouge_l_interval),
            ("exact match", overall.exact_match, overall.exact_match_interval),
        ):
            low, high = interval or (value, value)
            numbers = {"value": value, "low": low, "high": high}
            rows.append({"run": run, "metric": metric, "trained": trained, **numbers})
    return rows


def evaluations(folder: RunFolder) -> dict[int, tuple[int, Evaluation]]:
    """After how many rounds: how many tasks were trained on, and what came out; in order."""
    found, trained = {}, set[str]()
    if folder.before.is_file():
        found[0] = 0, read_json(folder.before, BeforeMetrics).evaluation
    for each in folder.rounds():
        if each.metrics.is_file():
            metrics = read_json(each.metrics, RoundMetrics)
            trained |= set(metrics.selected)
            found[each.index + 1] = len(trained), metrics.evaluation
    return found


def cost_rows(folder: RunFolder, state: RunState) -> dict[str, Rows]:
    """Seconds of the steps and tokens of the scorings, by round."""
    seconds: dict[tuple[str, str], float] = {}
    for each in state.completed:
        name = "before" if each.step == RunStep.BEFORE else f"round {each.round}"
        what = "evaluate" if each.step == RunStep.BEFORE else _STEPS.get(each.step, "the rest")
        seconds[name, what] = seconds.get((name, what), 0.0) + each.seconds
    tokens: dict[tuple[str, str], float] = {}
    for found in folder.rounds():
        if found.metrics.is_file():
            metrics = read_json(found.metrics, RoundMetrics)
            usage, name = metrics.scoring, f"round {found.index}"
            tokens[name, "computed to score"] = usage.tokens_computed
            tokens[name, "reused from the cache"] = usage.tokens_reused
            tokens[name, "generated to score"] = usage.tokens_generated + usage.tokens_sampled
            tokens[name, "trained on"] = metrics.training.rows.tokens
    return {"seconds": _bars(seconds), "tokens": _bars(tokens)}


def _bars(amounts: dict[tuple[str, str], float]) -> Rows:
    kinds = list(dict.fromkeys(what for _, what in amounts))
    if "the rest" in kinds:
        kinds = [*(kind for kind in kinds if kind != "the rest"), "the rest"]
    return [
        {"round": name, "what": what, "amount": amount, "order": kinds.index(what)}
        for (name, what), amount in amounts.items()
        if amount
    ]
