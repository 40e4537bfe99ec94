"""Pools and tasks in words, for a terminal."""

from __future__ import annotations

from engine.errors import InputError
from engine.perturb.base import Shown, show
from engine.pools.estimate import Estimate, time_in_words
from engine.pools.lengths import Lengths
from engine.pools.stats import PoolStats
from engine.prompts import PromptBuilder
from engine.protocol.score_config import ScoreConfig
from engine.tasks import Example, Task

_CATEGORIES_SHOWN = 12


def describe_stats(stats: PoolStats) -> str:
    """Statistics as lines of text."""
    rows = [
        ("tasks", f"{stats.tasks:,}"),
        ("instances", f"{stats.instances:,} ({stats.empty_inputs:,} with an empty input)"),
        (
            "no gold output",
            f"{stats.instances_without_gold:,} instances; all instances of "
            f"{stats.tasks_without_gold:,} tasks",
        ),
        (
            "examples",
            f"{stats.positive_examples:,} positive, {stats.negative_examples:,} negative",
        ),
        ("classifications", f"{stats.classifications:,} tasks"),
        ("categories", f"{len(stats.categories):,}; {stats.without_category:,} tasks have none"),
    ]
    shown = list(stats.categories.items())
    rows += [("", f"{count:>7,}  {name}") for name, count in shown[:_CATEGORIES_SHOWN]]
    if len(shown) > _CATEGORIES_SHOWN:
        rest = sum(count for _, count in shown[_CATEGORIES_SHOWN:])
        rows.append(("", f"{rest:>7,}  in {len(shown) - _CATEGORIES_SHOWN} more"))
    rows += [
        (
            "repeated",
            f"{stats.repeated_definitions:,} definitions, {stats.repeated_tasks:,} whole tasks, "
            f"{stats.repeated_instances:,} instances within their task",
        ),
        ("", ""),
        (f"length, {stats.unit}", "   mean  median     95%  longest"),
        ("definition", _lengths(stats.definition)),
        ("input", _lengths(stats.input)),
        ("output", _lengths(stats.output)),
    ]
    if stats.estimate is not None:
        rows += [("", ""), *_estimate(stats.estimate)]
    return "\n".join(f"{name:<16} {value}".rstrip() for name, value in rows)


def _lengths(lengths: Lengths) -> str:
    return (
        f"{lengths.mean:>7,.1f} {lengths.median:>7,} {lengths.p95:>7,} {lengths.longest:>8,}"
        if lengths.count
        else "   none"
    )


def _estimate(estimate: Estimate) -> list[tuple[str, str]]:
    how = "counted with the tokenizer" if estimate.unit == "tokens" else "reckoned from words"
    good = estimate.sampled_tasks - estimate.unfit_tasks
    rows = [
        ("scoring", f"about {estimate.pairs:,} pairs, {estimate.references:,} reference outputs")
    ]
    if estimate.tokens is None:
        rows.append(("tokens", "not estimated: no sampled task fits"))
    else:
        rows += [
            (
                "tokens",
                f"about {estimate.tokens:,}, {estimate.tokens_per_pair:,.0f} a pair; "
                f"{estimate.reusable_share:.0%} of them stand on a shared prefix",
            ),
            ("", f"about {estimate.tokens_generated:,} generated, if as long as the gold outputs"),
            ("", f"estimated: {how} on a sample of {good} tasks"),
        ]
    if estimate.unfit_tasks:
        rows.append(
            (
                "",
                f"{estimate.unfit_tasks} of {estimate.sampled_tasks} sampled tasks do not fit the "
                "context or the design",
            )
        )
    if estimate.seconds is None or estimate.rate is None:
        rows.append(("time", "not estimated: give --pairs-per-second or --url"))
        return rows
    rate = estimate.rate
    time = time_in_words(estimate.seconds)
    rows.append(("time", f"about {time}, the engine's start not included"))
    rows.append(("", f"at {rate.pairs_per_second:,.1f} pairs/s, {rate.origin}"))
    if estimate.cost is not None:
        rows.append(("cost", f"about {estimate.cost:,.2f}, for that time"))
    return rows


def describe_task(task: Task, n_instances: int = 3) -> str:
    """A task as lines of text, with its first instances."""
    lines = [
        f"id          {task.id}",
        f"category    {task.category or 'none'}",
        f"labels      {', '.join(task.labels) or 'none'}",
        f"definition  {task.definition}",
    ]
    for name, examples in (
        ("positive", task.positive_examples),
        ("negative", task.negative_examples),
    ):
        for number, example in enumerate(examples, start=1):
            lines += ["", f"{name} example {number} of {len(examples)}", *_example(example)]
    for number, instance in enumerate(task.instances[:n_instances], start=1):
        lines += ["", f"instance {number} of {len(task.instances)}: {instance.id}"]
        lines.append(f"  input   {instance.input}")
        lines += [f"  output  {output}" for output in instance.outputs]
    return "\n".join(lines)


def _example(example: Example) -> list[str]:
    lines = [f"  input   {example.input}", f"  output  {example.output}"]
    return [*lines, f"  because {example.explanation}"] if example.explanation else lines


def render_prompt(task: Task, number: int, config: ScoreConfig, builder: PromptBuilder) -> str:
    """The original prompt of a task's instance, with the examples that fit the context.

    Args:
        number: Which of its instances, counted from 1.
        config: Says how many examples are shown and how much room the output needs.

    Raises:
        InputError: If there is no such instance, or its prompt does not fit without examples.
    """
    if not 1 <= number <= len(task.instances):
        problem = f"no instance {number}; the task has {len(task.instances)}"
        raise InputError(problem, record=task.id, field="instances")
    task = builder.clean(task)
    instance = task.instances[number - 1]
    fitted = builder.prompt(task, instance, config.max_output_tokens)
    shown = Shown(fitted.n_positive_examples, fitted.n_negative_examples)
    return builder.text(show(task, shown), instance)
