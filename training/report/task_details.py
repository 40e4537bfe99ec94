"""What a report shows of one task: its prompts, its answers, every probability."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import polars as pl

from engine.errors import InputError
from engine.perturb import Perturbation, Shown
from engine.protocol.score_config import ScoreConfig
from engine.tasks import Task
from training.tables.question_tables import question_files

LONGEST_TEXT = 2_000
"""Characters of an input or an answer; definitions are shown whole."""

_MOST_SAMPLES = 200


class DetailFiles(Protocol):
    """Where the details of a scoring are; a round's folder is one. Files may be missing."""

    index: int
    pairs: Path
    journal: Path
    race_journal: Path
    questions: dict[str, Path]


class ScoringFiles:
    """What `jostle score` leaves beside its scores.

    Args:
        pairs: Its table of pairs, `NAME.pairs.parquet`.
    """

    def __init__(self, pairs: Path) -> None:
        whole = pairs.name.removesuffix(".parquet").removesuffix("pairs").removesuffix(".")
        self.index = 0
        self.pairs = pairs
        self.journal = pairs.with_name(f"{whole}.journal.jsonl")
        self.race_journal = self.journal
        self.questions = question_files(lambda table: pairs.with_name(f"{whole}.{table}.parquet"))


Details = dict[str, Any]
"""Of a task: `prompts` by number j, `instances` by id, `fewer` (ids of those whose prompts had room
for fewer examples only), and of each round by its index `pairs` (instance, j, p, whether the answer
stays the greedy one or null), `gold` (whether its outputs are gold ones), `answers` by instance and
`samples` (instance, j, output). Texts are those of known tasks; pages show no others."""


class _Answer(NamedTuple):
    """A reference output, and how many examples its prompts show."""

    text: str
    is_gold: bool
    shown: Shown


def details_of(
    task_ids: Sequence[str],
    tasks: Mapping[str, Task],
    rounds: Sequence[DetailFiles],
    config: ScoreConfig,
) -> Iterator[Details]:
    """The details of some tasks, in their order.

    Args:
        tasks: Those whose texts are known.
        rounds: Each with its index; what it lacks is left out.
        config: Of the scoring.
    """
    wanted = set(task_ids)
    pairs = {each.index: _rows_by_task(_pairs(each), wanted) for each in rounds}
    samples = {each.index: _rows_by_task(_samples(each), wanted) for each in rounds}
    answers = {each.index: _references(each, wanted) for each in rounds}
    perturbation = Perturbation(config.perturbation, config.seed)
    most = Shown(config.prompt.n_positive_examples, config.prompt.n_negative_examples)
    for task_id in task_ids:
        details: Details = {}
        fitted: dict[str, Shown] = {}
        for each in rounds:
            given = answers[each.index].get(task_id, {})
            fitted |= {instance: answer.shown for instance, answer in given.items()}
            own: dict[str, Any] = {
                "pairs": pairs[each.index].get(task_id, []),
                "gold": any(answer.is_gold for answer in given.values()),
            }
            if task_id in tasks:
                own["answers"] = {instance: answer.text for instance, answer in given.items()}
                own["samples"] = samples[each.index].get(task_id, [])[:_MOST_SAMPLES]
            details[str(each.index)] = {name: value for name, value in own.items() if value}
        if task := tasks.get(task_id):
            shown = max(fitted.values(), default=most.of(task))
            numbers = {row[1] for each in rounds for row in pairs[each.index].get(task_id, [])}
            details["prompts"] = _prompts(task, perturbation, shown, sorted(numbers - {0}))
            details["fewer"] = [name for name, fits in fitted.items() if fits < shown]
            measured = {row[0] for each in rounds for row in pairs[each.index].get(task_id, [])}
            details["instances"] = {
                each.id: {"input": shorten(each.input), "gold": [*map(shorten, each.outputs[:3])]}
                for each in task.instances
                if each.id in measured
            }
        yield details


def _prompts(
    task: Task, perturbation: Perturbation, shown: Shown, numbers: Sequence[int]
) -> dict[int, str]:
    """What stands before the instance, by number of the perturbation; 0 is the original."""
    prompts = {0: _text(task, shown)}
    for j in numbers:
        with suppress(InputError):  # paraphrases that a model made are not kept with the run
            prompts[j] = _text(perturbation.apply(task, j, shown), shown)
    return prompts


def _text(task: Task, shown: Shown) -> str:
    parts = [task.definition]
    for example in task.positive_examples[: shown.n_positive]:
        parts.append(f"Input: {example.input}\nOutput: {example.output}")
    for example in task.negative_examples[: shown.n_negative]:
        parts.append(f"Input: {example.input}\nNot: {example.output}")
    return "\n\n".join(parts)


def _pairs(folder: DetailFiles) -> pl.DataFrame | None:
    """Instance, j, p and whether the output stays the greedy one under prompt j.

    That is null where it is not under the original one either, as gold outputs mostly are not.
    """
    if not folder.pairs.is_file():
        return None
    table = pl.read_parquet(folder.pairs, glob=False)
    kept = pl.col("is_greedy") if "is_greedy" in table.columns else pl.lit(None, pl.Boolean)
    instance = ("task_id", "instance_id")
    never = ((pl.col("perturbation") == 0) & ~kept).any().over(instance)
    p = pl.col("probability").round(5)
    greedy = pl.when(~never).then(kept).alias("is_greedy")
    return table.select(*instance, "perturbation", p, greedy)


def _samples(folder: DetailFiles) -> pl.DataFrame | None:
    path = folder.questions.get("output_disagreement")
    if path is None or not path.is_file():
        return None
    output = pl.col("output").str.head(LONGEST_TEXT)
    table = pl.read_parquet(path, glob=False)
    return table.select("task_id", "instance_id", "perturbation", output)


def _rows_by_task(table: pl.DataFrame | None, wanted: Collection[str]) -> dict[str, list[Any]]:
    """The rows of some tasks, without the task."""
    if table is None:
        return {}
    parts = table.filter(pl.col("task_id").is_in(list(wanted))).partition_by(
        "task_id", as_dict=True, include_key=False
    )
    return {str(key[0]): part.rows() for key, part in parts.items()}


def _references(folder: DetailFiles, wanted: Collection[str]) -> dict[str, dict[str, _Answer]]:
    """The reference outputs, by task and instance.

    Lines of journals are taken as they are: their records check much that is not shown.
    """
    found: dict[str, dict[str, _Answer]] = {}
    for path in {folder.journal, folder.race_journal}:
        if not path.is_file():
            continue
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                if not line.endswith("\n"):  # somebody is writing it
                    break
                record = json.loads(line)
                given = record["references"]
                if "task_id" in record:
                    given = {record["task_id"]: given}
                for task_id, references in given.items():
                    if task_id in wanted:
                        own = found.setdefault(task_id, {})
                        own |= {each["instance_id"]: _answer(each) for each in references}
    return found


def _answer(record: Mapping[str, Any]) -> _Answer:
    shown = Shown(record["n_positive_examples"], record["n_negative_examples"])
    return _Answer(shorten(record["text"]), record["finish_reason"] == "gold", shown)


def shorten(text: str) -> str:
    """What is longer than `LONGEST_TEXT` ends in an ellipsis."""
    if len(text) <= LONGEST_TEXT:
        return text
    return text[:LONGEST_TEXT].rstrip() + "\N{HORIZONTAL ELLIPSIS}"
