"""What a report shows of one task, from the files of a scoring."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from engine.perturb import Compose, DropWords, Paraphrase
from engine.perturb.base import Step
from engine.protocol.score_config import ScoreConfig
from engine.tasks import Example
from tests.training.report.made_run import make_task
from training.report.task_details import Details, ScoringFiles, details_of
from training.tables.score_tables import PAIR_COLUMNS
from training.tables.table_files import write_parquet

EXAMPLES = tuple(Example(input=f"in {n}", output=f"out {n}") for n in range(3))
TASK = make_task(0, "Say it now.").model_copy(update={"positive_examples": EXAMPLES})


def reference(instance: int, reason: str = "stop", shown: int = 2) -> dict[str, Any]:
    return {
        "instance_id": f"i{instance}",
        "text": f"answer {instance}",
        "finish_reason": reason,
        "n_positive_examples": shown,
        "n_negative_examples": 0,
    }


def details(
    folder: Path,
    config: ScoreConfig,
    *references: dict[str, Any],
    greedy: str = "yyy",
    known: bool = True,
) -> Details:
    """Those of `TASK` with prompts 0 to 2: `greedy` says of which one the output is the answer."""
    rows = [
        {"instance_id": each["instance_id"], "perturbation": j, "is_greedy": greedy[j] == "y"}
        for each in references
        for j in range(3)
    ]
    pairs = pl.DataFrame(rows).with_columns(task_id=pl.lit(TASK.id), probability=pl.lit(0.5))
    files = ScoringFiles(folder / "scores.pairs.parquet")
    write_parquet(files.pairs, pairs.cast({name: PAIR_COLUMNS[name] for name in pairs.columns}))
    files.journal.write_text(json.dumps({"task_id": TASK.id, "references": references}) + "\n")
    samples = pl.DataFrame({**rows[0], "task_id": TASK.id, "output": "a sample"})
    write_parquet(files.questions["output_disagreement"], samples)
    (found,) = details_of([TASK.id], {TASK.id: TASK} if known else {}, [files], config)
    return found


@pytest.mark.parametrize(
    ("perturbation", "shown"),
    [
        (Paraphrase(), [0]),
        (Compose(steps=(Paraphrase(), DropWords())), [0]),
        (Paraphrase(texts={TASK.definition: ("By hand.",)}), [0, 1]),
    ],
)
def test_prompts_that_are_not_kept_with_the_run_are_left_out(
    tmp_path: Path, perturbation: Step, shown: list[int]
) -> None:
    found = details(tmp_path, ScoreConfig(perturbation=perturbation), reference(0))
    assert list(found["prompts"]) == shown
    assert found["instances"].keys() == {"i0"}


def test_prompts_show_the_examples_that_had_room(tmp_path: Path) -> None:
    found = details(tmp_path, ScoreConfig(), reference(0), reference(1, shown=1))
    assert found["prompts"][0].count("Output: ") == found["prompts"][1].count("Output: ") == 2
    assert found["fewer"] == ["i1"]


@pytest.mark.parametrize(
    ("reason", "greedy", "kept"),
    [
        ("stop", "yyn", [True, True, False]),
        ("gold", "yyn", [True, True, False]),
        ("gold", "nyn", [None, None, None]),
    ],
)
def test_only_what_was_the_answer_can_flip(
    tmp_path: Path, reason: str, greedy: str, kept: list[bool | None]
) -> None:
    own = details(tmp_path, ScoreConfig(), reference(0, reason), greedy=greedy)["0"]
    assert [row[3] for row in own["pairs"]] == kept
    assert own.get("gold", False) is (reason == "gold")
    assert own["answers"] == {"i0": "answer 0"}
    assert own["samples"] == [("i0", 0, "a sample")]


def test_of_a_task_whose_texts_are_unknown_there_are_numbers_only(tmp_path: Path) -> None:
    found = details(tmp_path, ScoreConfig(), reference(0, "gold"), known=False)
    assert found.keys() == {"0"}
    assert found["0"].keys() == {"pairs", "gold"}
