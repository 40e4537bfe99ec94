"""A test kit for strategies of one's own.

from training.selection.strategy_testing import check_strategy

def test_my_strategy():
check_strategy(MyStrategy())
"""

from __future__ import annotations

import random

import polars as pl

from training.selection.selecting import select
from training.selection.strategy import Strategy


def check_strategy(strategy: Strategy, n_seeds: int = 5) -> None:
    """Checks what every strategy promises, on drawn scores.

    Raises:
        AssertionError: Saying which promise is broken: its summary and name; no task twice, none
            that is not there, not too many; the same again for the same seed, whatever the order of
            rows; a reason for each; settings that can be written and read again.
        InputError: If a choice is not valid.
    """
    kind = type(strategy)
    assert getattr(kind, "summary", ""), "has no summary"
    assert kind.model_fields["name"].default == strategy.name, "`name` has no default"
    again = kind.model_validate_json(strategy.model_dump_json())
    assert again == strategy, "its settings change when they are written and read"
    for seed in range(n_seeds):
        scores = draw_scores(40, seed)
        for n in (1, 12, 40, 60):
            chosen = select(scores, strategy, n, seed)
            assert len(chosen.tasks) <= n
            assert all(task.reason for task in chosen.tasks), "a task has no reason"
            assert chosen == select(scores, again, n, seed), "another result the second time"
            shuffled = scores.sample(fraction=1, shuffle=True, seed=seed)
            assert chosen == select(shuffled, strategy, n, seed), "the order of rows matters"


def draw_scores(n_tasks: int, seed: int = 0) -> pl.DataFrame:
    """Scores as `jostle score` writes them, drawn with a seed; many values are tied."""
    draw = random.Random(seed)
    subjects = ("sentence", "story", "question", "review", "number")
    verbs = ("translate", "classify", "answer", "shorten")
    rows = [
        {
            "task_id": f"task-{index}",
            "prompt_uncertainty": draw.randint(0, 9) / 10,
            "prediction_probability": draw.randint(1, 10) / 10,
            "perplexity": 1 + draw.randint(0, 9) / 3,
            "flip_rate": index % 6 / 5,
            "output_disagreement": index % 7 / 6,
            "label_bald": index % 5 / 6,
            "instruction_following_difficulty": index % 9 / 6,
            "n_instances": 3,
            "n_perturbations": 4,
            "map_category": draw.choice(("ambiguous", "easy", "difficult")),
            "selected": None,
            "weights_version": "base",
            "category": draw.choice((*subjects, None)),
            "classification": draw.random() < 0.4,
            "definition": f"{draw.choice(verbs)} the {draw.choice(subjects)} you are given",
        }
        for index in range(n_tasks)
    ]
    return pl.DataFrame(rows, schema_overrides={"selected": pl.Boolean, "category": pl.String})
