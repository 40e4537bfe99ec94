"""Runs over each other: learning curves, and paired differences on the same held-out tasks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from statistics import fmean
from typing import Any

from engine.errors import InputError
from engine.prompts.prompt_config import PromptConfig
from training.config.run_config import EvaluateConfig, load_config
from training.evaluation.bootstrap import crossed_difference
from training.evaluation.evaluator import Evaluation
from training.report.charts.curve_chart import curve_chart
from training.report.charts.interval_chart import difference_chart
from training.report.charts.picture import PICTURES, write_picture
from training.report.report_data import Rows, curve_rows, evaluations
from training.report.report_page import write_page
from training.run.run_folder import RunFolder
from training.run.state import read_state

DIFFERENCES_WORDS = (
    "Paired by seed and held-out task; lines: bootstrap intervals at 95 % over seeds and tasks. "
    "One that crosses 0 shows no difference; one of a single seed says nothing of other seeds."
)


class Comparison:
    """Runs side by side; those whose names differ in `-seed-N` alone count as one, repeated.

    Args:
        paths: Run folders, or folders of sweeps, which stand for all their runs, those of the
            strategy `random` first.
        names: What to call them, where not by their folders.

    Raises:
        InputError: If a folder holds no run, or runs were evaluated differently.
    """

    def __init__(self, paths: Sequence[Path], names: Sequence[str] = ()) -> None:
        self.runs: dict[str, dict[int, RunFolder]] = {}
        held_out: dict[str, Path] = {}
        evaluated: dict[tuple[EvaluateConfig, PromptConfig], Path] = {}
        folders = [RunFolder(run) for path in paths for run in _runs_of(path)]
        for folder, called in zip_longest(folders, names):
            state = read_state(folder)
            held_out.setdefault(state.held_out_digest, folder.path)
            name = called or re.sub(r"-seed-\d+$", "", folder.path.name)
            repeats = self.runs.setdefault(name, {})
            config = load_config(folder.config)
            seed = config.seed
            asked = config.evaluate.model_copy(update={"gold_perplexity": False})
            evaluated.setdefault((asked, config.score.prompt), folder.path)
            if seed in repeats:
                problem = f"is another run of {name} with seed {seed}, as {repeats[seed].path}"
                raise InputError(problem, file=folder.path)
            repeats[seed] = folder
        if len(held_out) > 1:
            first, second, *_ = held_out.values()
            problem = f"was evaluated on other held-out tasks than {first}"
            raise InputError(problem, file=second, field="held_out_digest")
        if len(evaluated) > 1:
            (one, first), (other, second), *_ = evaluated.items()
            field, value, other_value = next(
                (f"{part}.{name}", value, getattr(theirs, name))
                for part, ours, theirs in zip(("evaluate", "score.prompt"), one, other, strict=True)
                for name, value in ours
                if getattr(theirs, name) != value
            )
            problem = f"is {other_value}, and {value} in {first}"
            raise InputError(problem, file=second, field=field)

    def curves(self) -> Rows:
        """Rows of `curve_chart`; of several seeds the mean, between the least and the largest.

        As far as all of them have got: a mean of others is no point of the same curve.
        """
        rows: Rows = []
        for name, repeats in self.runs.items():
            if len(repeats) == 1:
                rows += curve_rows(next(iter(repeats.values())), name)
                continue
            points: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
            for folder in repeats.values():
                reached: Counter[str] = Counter()
                for row in curve_rows(folder):
                    points.setdefault((row["metric"], reached[row["metric"]]), []).append(row)
                    reached[row["metric"]] += 1
            for (metric, _), seen in points.items():
                if len(seen) < len(repeats):
                    continue
                values = [row["value"] for row in seen]
                place = {
                    "run": name, "metric": metric, "trained": fmean(row["trained"] for row in seen)
                }  # fmt: skip
                rows.append(
                    place | {"value": fmean(values), "low": min(values), "high": max(values)}
                )
        return rows

    def differences(self, *, every_round: bool = False) -> Rows:
        """ROUGE-L of every other run less that of the first one, paired by seed and held-out task.

        Rows of `difference_chart`, with `p` and how many tasks were `trained` on in the mean, see
        `training.evaluation.bootstrap.crossed_difference`; none without a common seed, a round that
        both reached under all common seeds, and two held-out tasks.

        Args:
            every_round: All such rounds in their order; else the last.
        """
        (first, base), *others = self.runs.items()
        rows: Rows = []
        for name, repeats in others:
            pairs = [
                (_by_plan(base[seed]), _by_plan(repeats[seed]))
                for seed in sorted(base.keys() & repeats.keys())
            ]
            reached = [before.keys() & after.keys() for before, after in pairs]
            common = sorted(set.intersection(*reached) - {0}) if reached else []
            for planned in common if every_round else common[-1:]:
                ends = [(before[planned], after[planned]) for before, after in pairs]
                trained = fmean(n for both in ends for n, _ in both)
                pair = f"{name} less {first}, {trained:g} tasks"
                moves = [_moves(before, after) for (_, before), (_, after) in ends]
                found = crossed_difference(moves, pair)
                if found:
                    rows.append({"pair": pair, "trained": trained, **found._asdict()})
        return rows

    def write(self, path: Path) -> None:
        """As a page, or the curves alone as a picture."""
        curves = curve_chart(several=True)
        if path.suffix in PICTURES:
            write_picture(path, curves, {"curve": self.curves()})
            return
        data: dict[str, Any] = {
            "about": ", ".join(f"{name} ({len(seeds)} seeds)" for name, seeds in self.runs.items()),
            "curve": self.curves(),
            "curves_words": "Bands: from the least to the largest over seeds; of a single seed, "
            "bootstrap intervals at 95 % over the held-out tasks.",
            "differences": self.differences(),
            "differences_words": DIFFERENCES_WORDS,
            "facts": [
                (f"{name}, seed {seed}", str(folder.path))
                for name, repeats in self.runs.items()
                for seed, folder in repeats.items()
            ],
            "rounds": [],
            "tasks": {"id": [], "category": [], "definition": []},
            "columns": {},
        }
        charts = {"curves": curves, "differences": difference_chart()}
        write_page(path, data, charts, title=f"{len(self.runs)} runs compared")


def beside_random(folder: RunFolder) -> Comparison | None:
    """A run, and the one beside it that drew its tasks at random; none where there is none."""
    drawn = RunFolder(folder.beside)
    if not drawn.state.is_file():
        return None
    strategy = load_config(folder.config).select.strategy.name
    return Comparison([drawn.path, folder.path], ["random", strategy])


def _runs_of(path: Path) -> list[Path]:
    if (path / "sweep.json").is_file():
        runs = path.glob("*/state.json")
        own = [run.parent for run in runs if not run.parent.name.startswith("shared-seed-")]
        return sorted(own, key=lambda run: (not run.name.startswith("random-seed-"), run.name))
    if not (path / "state.json").is_file():
        raise InputError("holds neither a run (state.json) nor a sweep (sweep.json)", file=path)
    return [path]


def _by_plan(folder: RunFolder) -> dict[int, tuple[int, Evaluation]]:
    """`evaluations` by how many tasks were to be trained on; a round may have taken fewer."""
    config = load_config(folder.config)
    new = config.select.n_tasks
    first = config.initial.n_tasks or new
    return {
        first + (n_rounds - 1) * new if n_rounds else 0: found
        for n_rounds, found in evaluations(folder).items()
    }


def _moves(before: Evaluation, after: Evaluation) -> list[float]:
    """Of each held-out task."""
    return [after.tasks[name].rouge_l - score.rouge_l for name, score in before.tasks.items()]
