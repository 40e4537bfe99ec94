"""Where a run stands, read from its folder; also while another process works on it."""

from __future__ import annotations

import time

from rich import box
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from engine.pools.estimate import time_in_words
from engine.tasks import Record
from training.report.display import TITLES, summary_table
from training.run.progress_file import StepProgress, current_progress
from training.run.run_folder import RunFolder
from training.run.state import RunStep, plan, read_state
from training.run.summary import SummaryRow, read_summary
from training.tables.lock import Owner, live_owner


class StepStatus(Record):
    """A step of the plan.

    Attributes:
        round: The round.
        step: The step.
        state: `done`, `current` or `waiting`.
        seconds: What it took, when it is done.
        weights_version: The weights it was done with, see `StepRecord`.
    """

    round: int
    step: RunStep
    state: str
    seconds: float | None = None
    weights_version: str | None = None


class RunStatus(Record):
    """Where a run stands.

    Attributes:
        path: The run folder.
        owner: Who works on it now; none when nobody does.
        steps: All steps, in order.
        progress: How far the current step was when it was last looked at; none when it has not
            begun.
        rows: The table so far.
    """

    path: str
    owner: Owner | None
    steps: tuple[StepStatus, ...]
    progress: StepProgress | None
    rows: tuple[SummaryRow, ...]

    @property
    def finished(self) -> bool:
        return all(step.state == "done" for step in self.steps)


def read_status(folder: RunFolder) -> RunStatus:
    """Where the run in a folder stands.

    Raises:
        InputError: If the folder holds no run, or a record is broken.
    """
    state = read_state(folder)
    done = {(each.round, each.step): each for each in state.completed}
    steps = []
    for index, step in plan(state.rounds, state.initial):
        record = done.get((index, step))
        current = (index, step) == (state.current_round, state.current_step)
        steps.append(
            StepStatus(
                round=index,
                step=step,
                state="done" if record else "current" if current else "waiting",
                seconds=record.seconds if record else None,
                weights_version=record.weights_version if record else None,
            )
        )
    owner, progress = live_owner(folder.lock), current_progress(folder, state)
    if owner and progress and progress.started < owner.started:  # of a start before
        progress = None
    return RunStatus(
        path=str(folder.path),
        owner=owner,
        steps=tuple(steps),
        progress=progress,
        rows=tuple(read_summary(folder)),
    )


def status_view(status: RunStatus, *, rounds_before: bool = True) -> Group:
    """The status as a person reads it.

    Args:
        rounds_before: Whether the steps of rounds are shown that are done, as rounds go on.
    """
    going = next((step.round for step in status.steps if step.state == "current"), None)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    # In a narrow terminal only what comes last gives way.
    for heading, width in (("round", 5), ("step", 23), ("state", 7)):
        table.add_column(heading, no_wrap=True, min_width=width)
    table.add_column("time", no_wrap=True, min_width=6, justify="right")
    table.add_column("", no_wrap=True)
    for step in status.steps:
        if not rounds_before and going is not None and step.round < going:
            continue
        current = step.state == "current"
        seconds = step.seconds
        if current and status.progress and status.owner:
            seconds = time.time() - status.progress.started
        table.add_row(
            "" if step.step == RunStep.BEFORE else str(step.round),
            TITLES[step.step],
            _state(step, status),
            "" if seconds is None else f"{seconds:.0f} s",
            _detail(status.progress) if current else (step.weights_version or ""),
            style="bold" if current else "dim" if step.state == "waiting" else "",
        )
    parts: list[Table | Text] = [Text.from_markup(_headline(status)), table]
    if status.rows:
        parts.append(summary_table(status.rows))
    return Group(*parts)


def _headline(status: RunStatus) -> str:
    path = escape(status.path)
    if status.owner:
        since = time_in_words(time.time() - status.owner.started)
        return (
            f"{path}: process {status.owner.pid} on {escape(status.owner.host)} has been working "
            f"on it for {since}"
        )
    if status.finished:
        return f"{path}: finished"
    return f"{path}: [yellow]nobody works on it[/]; the command that began it goes on with it"


def _state(step: StepStatus, status: RunStatus) -> str:
    if step.state == "current":
        return "[green]running[/]" if status.owner else "[yellow]next[/]"
    return "" if step.state == "waiting" else "done"


def _detail(progress: StepProgress | None) -> str:
    if progress is None:
        return ""
    total = "" if progress.total is None else f" of {progress.total}"
    done = f"{progress.done}{total} {progress.unit}" if progress.done or progress.total else ""
    return escape(f"{done}  {progress.detail}".strip())
