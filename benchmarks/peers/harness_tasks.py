"""The tasks of the harness benchmark; YAML stands in benchmarks/tasks, data is made here.

Real tasks from ../shared/data/niv2 when present, else tasks of the bundled pool.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from benchmarks.common.pairs import REAL_TASKS
from engine.pools.bundled import training_pool
from engine.pools.niv2 import load_niv2_task
from engine.tasks import Task

FOLDER = Path(__file__).parent.parent / "tasks"


class HarnessTask(NamedTuple):
    """A task of the harness.

    Attributes:
        name: Its name there, and its file's.
        shots: Examples before each question.
        real: The task of `REAL_TASKS` that gives the data.
        bundled: That of the bundled pool otherwise.
    """

    name: str
    shots: int
    real: str
    bundled: str


TASKS = (
    HarnessTask("four_answers", 5, "task698_mmmlu_answer_generation_global_facts", "message_topic"),
    HarnessTask("classification", 8, "task1752_bbh_sports_understanding", "review_sentiment"),
    HarnessTask("drawn_shots", 8, "task1752_bbh_sports_understanding", "review_sentiment"),
)
"""With shots that are the same for all questions, as in MMLU, and drawn for each anew."""


def write_task(task: HarnessTask, folder: Path, n_questions: int) -> None:
    """Writes YAML and data of a task into a folder for the harness' `--include_path`."""
    source = _source(task)
    rows = [_row(source, one.input, one.golds[0]) for one in source.instances if one.golds]
    for name, part in (
        ("shots", rows[: 4 * task.shots]),
        ("questions", rows[4 * task.shots :][:n_questions]),
    ):
        lines = "".join(json.dumps(row) + "\n" for row in part)
        (folder / f"{task.name}_{name}.jsonl").write_text(lines)
    text = (FOLDER / f"{task.name}.yaml").read_text()
    (folder / f"{task.name}.yaml").write_text(text.replace("FOLDER", str(folder)))


def _source(task: HarnessTask) -> Task:
    if REAL_TASKS.is_dir():
        return load_niv2_task(REAL_TASKS / f"{task.real}.json")
    return next(one for one in training_pool() if one.id == task.bundled)


def _row(task: Task, question: str, answer: str) -> dict[str, object]:
    answers = sorted({one.golds[0] for one in task.instances if one.golds})
    return {
        "definition": task.definition.strip(),
        "question": question.strip(),
        "answers": answers,
        "answer": answers.index(answer),
    }
