"""A run as a person sees it: progress bars while it goes on, a table when it is done."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table
from rich.text import Text

from engine.pools.estimate import time_in_words
from training.evaluation.evaluator import Evaluation, Score
from training.run.planning import RunPlan
from training.run.state import RunStep
from training.run.summary import SummaryRow

LINE_SECONDS = 60.0
"""How often a step tells how far it is where no bar can be drawn."""

TITLES = {
    RunStep.BEFORE: "evaluate the base model",
    RunStep.SCORE: "score",
    RunStep.SELECT: "select",
    RunStep.TRAIN: "fine-tune",
    RunStep.PUBLISH: "publish",
    RunStep.RELOAD: "reload",
    RunStep.EVALUATE: "evaluate",
}


class _TimeLeft(TimeRemainingColumn):
    """How long it will still take; nothing where nobody knows how much there is."""

    def render(self, task: Task) -> Text:
        shown = super().render(task)
        return Text.assemble(shown, " left") if task.total else Text("")


class RichProgress:
    """Draws the step that is going on as a bar, and leaves a line for each that is done.

    A context manager. Implements `training.run.progress.Progress`.

    Args:
        console: Where to draw. Without a terminal there is a line for each finished step, and one
            a minute of how far the step is.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bars = Progress(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=10),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeElapsedColumn(),
            _TimeLeft(compact=True),
            # What comes last takes what room is left, and gives way alone.
            TextColumn("[dim]{task.fields[detail]}", table_column=Column(ratio=1, no_wrap=True)),
            console=console,
            expand=True,
            transient=True,
            # The pace of the last ten minutes: what takes minutes each, or ends in bursts, shows
            # none in a shorter time.
            speed_estimate_period=600,
        )
        self._current: TaskID | None = None
        self._told = 0.0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._bars.stop()

    def begin(self, round_index: int, step: RunStep, total: int | None, unit: str) -> None:
        self.open(_title(round_index, step), total, unit)

    def waiting(self, what: str, seconds: float, expected: float) -> None:
        """Show that something without steps goes on, against the time it usually takes.

        Args:
            seconds: How long it has taken so far.
            expected: How long it usually takes.
        """
        if self._current is None:
            self.open(what, round(expected), "s")
        self.advance(min(round(seconds), round(expected) - 1))

    def done(self, what: str, seconds: float, summary: str) -> None:
        if self._current is not None:
            self._bars.remove_task(self._current)
            self._current = None
        step = f"  [green]\N{CHECK MARK}[/] {escape(what):<32} [dim]{_clock(seconds):>6}[/]"
        if not self.console.is_terminal:
            line = f"{step}  {escape(summary)}"
            self.console.print(line, highlight=False, soft_wrap=True)
            return
        row = Table.grid(padding=(0, 2))  # what is too long goes on below itself
        row.add_column(no_wrap=True)
        row.add_column(overflow="fold")
        row.add_row(step, escape(summary))
        self.console.print(row, highlight=False)

    def advance(self, done: int, total: int | None = None, detail: str = "") -> None:
        assert self._current is not None
        # rich takes none as "leave the total as it is".
        self._bars.update(self._current, completed=done, total=total, detail=escape(detail))
        if not self.console.is_terminal and time.monotonic() - self._told >= LINE_SECONDS:
            self._tell(self._current)

    def _tell(self, current: TaskID) -> None:
        """How far the step is, as a line."""
        self._told = time.monotonic()
        bar = next(task for task in self._bars.tasks if task.id == current)
        whole = "" if bar.total is None else f" of {bar.total:,.0f}"
        left = "" if bar.time_remaining is None else f", about {_clock(bar.time_remaining)} left"
        far = f"{bar.completed:,.0f}{whole} {bar.fields['unit']}{left}  {bar.fields['detail']}"
        line = f"  {bar.description:<34} {_clock(bar.elapsed or 0.0):>6}  {far}"
        self.console.print(line.rstrip(), highlight=False, soft_wrap=True)

    def end(self, round_index: int, step: RunStep, seconds: float, summary: str) -> None:
        self.done(_title(round_index, step), seconds, summary)

    def open(self, title: str, total: int | None, unit: str) -> None:
        """Put a bar up for what is no step of a run."""
        if self._current is not None:
            self._bars.remove_task(self._current)
        self._current = self._bars.add_task(title, total=total, unit=unit, detail="")
        self._told = time.monotonic()


def plain_table(title: str, *headings: str, left: int = 1) -> Table:
    """An empty table with a line below its headings; the first column folds where room is short.

    Args:
        left: How many columns are of words; the others are of numbers.
    """
    table = Table(
        title=title or None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for number, heading in enumerate(headings):
        table.add_column(
            heading,
            justify="left" if number < left else "right",
            no_wrap=number > 0,
            overflow="ellipsis" if number else "fold",
        )
    return table


def summary_table(rows: Sequence[SummaryRow]) -> Table:
    """The run as a table, 80 columns wide at most; later rows show their gain over the first."""
    headings = ("trained on", "ROUGE-L", "exact match", "steps", "s/step", "time")
    table = plain_table("Held-out tasks", "", *headings)
    for row in rows:
        first = row is rows[0]
        table.add_row(
            row.name,
            "" if first else f"{row.tasks_trained} tasks",
            _with_gain(row.rouge_l, None if first else rows[0].rouge_l),
            _with_gain(row.exact_match, None if first else rows[0].exact_match),
            "" if row.steps is None else str(row.steps),
            "" if row.seconds_per_step is None else f"{row.seconds_per_step:.2f}",
            _clock(row.seconds),
        )
    return table


def plan_table(plan: RunPlan) -> Table:
    """What a run will take, a row per round; samples only where there are some."""
    sampled = any(each.samples for each in plan.rounds)
    scoring = ("tasks", "pairs", *(("samples",) if sampled else ()), "computed\ntokens")
    table = plain_table("", "", *scoring, "rows", "trained\ntokens", "prompts")
    for each in plan.rounds:
        numbers = (
            each.tasks,
            each.pairs,
            *((each.samples,) if sampled else ()),
            each.score_tokens,
            each.train_rows,
            each.train_tokens,
            each.evaluate_prompts,
        )
        table.add_row(each.name, *(f"{number:,}" for number in numbers))
    return table


def describe_plan(plan: RunPlan) -> list[str]:
    """Time and disk of a plan, in words."""
    time = "unknown without a rate (--pairs-per-second)"
    if plan.seconds is not None:
        long = time_in_words(plan.seconds)
        time = f"about {long} of scoring and training, starts not counted"
    disk = "unknown: no safetensors file of the model is here"
    if plan.disk_bytes is not None:
        disk = f"{plan.disk_bytes / 1e9:.2f} GB at most, {plan.free_bytes / 1e9:.1f} GB are free"
        if plan.disk_bytes > plan.free_bytes:
            disk += ": too little"
    return [
        f"tokens   estimated from {plan.sampled_tasks} tasks",
        f"time     {time}",
        f"disk     {disk}",
    ]


def evaluation_table(name: str, evaluation: Evaluation) -> Table:
    """Metrics of all, of each kind and of each category, with their intervals."""
    groups = [
        ("all", evaluation.overall),
        *evaluation.kinds.items(),
        *evaluation.categories.items(),
    ]
    gold = any(score.gold_perplexity is not None for _, score in groups)
    headings = ("ROUGE-L", "exact match", *["gold\nperplexity"] * gold, "instances")
    table = plain_table(escape(name), "", *headings)
    for group, score in groups:
        perplexity = score.gold_perplexity
        of_gold = "" if perplexity is None else f"{perplexity:.2f}{_of_fewer(score)}"
        table.add_row(
            escape(group),
            with_interval(score.rouge_l, score.rouge_l_interval),
            with_interval(score.exact_match, score.exact_match_interval),
            *[of_gold] * gold,
            str(score.n_instances),
        )
    return table


def _of_fewer(score: Score) -> str:
    """How many gold outputs fit the context, where not all do."""
    some = score.gold_instances
    return "" if some is None or some == score.n_instances else f" [dim](of {some})[/]"


def with_interval(value: float, interval: tuple[float, float] | None) -> str:
    """A value, and behind it in brackets from where to where it may be."""
    shown = "" if interval is None else f" [dim]({interval[0]:.1f} to {interval[1]:.1f})[/]"
    return f"{value:.1f}{shown}"


def _with_gain(value: float, before: float | None) -> str:
    if before is None:
        return f"{value:.1f}"
    gain = value - before
    return f"{value:.1f} [{'green' if gain > 0 else 'red'}]({gain:+.1f})[/]"


def shown_path(path: Path) -> str:
    """As it is typed from here, if it is below."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _title(round_index: int, step: RunStep) -> str:
    return TITLES[step] if step == RunStep.BEFORE else f"round {round_index}: {TITLES[step]}"


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}"
