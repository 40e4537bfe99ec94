"""A test kit for measures of one's own.

from engine.measures.measure_testing import check_measure

def test_my_measure():
check_measure(MY_MEASURE)
"""

from __future__ import annotations

import math
import random
import re
from typing import Any

import polars as pl

from engine.measures.compute import tasks_of_table
from engine.measures.measure import Measure
from engine.measures.measure_registry import INPUTS


def check_measure(measure: Measure, n_seeds: int = 5) -> None:
    """Checks what every measure promises, on drawn tables of its declared input.

    Raises:
        AssertionError: Saying which promise is broken: its name and texts; a finite value in its
            range, one per task; that neither the order of rows nor the other tasks matter.
    """
    assert re.fullmatch(r"[a-z][a-z0-9_]*", measure.name), f"{measure.name!r} is no column name"
    assert measure.title, "has no title"
    assert measure.formula, "has no formula"
    assert measure.source, "has no source"
    assert measure.needs in INPUTS, f"{measure.needs!r} is none of {', '.join(INPUTS)}"
    assert measure.uncertain in ("high", "low"), f"uncertain end {measure.uncertain!r}"
    assert measure.lowest < measure.highest, "the range is empty"
    for seed in range(n_seeds):
        table = draw_table(measure.needs, seed)
        values = _values(measure, table)
        shuffled = _values(measure, table.sample(fraction=1, shuffle=True, seed=seed))
        for task_id, value in values.items():
            assert math.isfinite(value), f"{value} is not finite"
            assert measure.lowest - 1e-9 <= value <= measure.highest + 1e-9, f"{value}: range"
            assert math.isclose(value, shuffled[task_id], rel_tol=1e-9, abs_tol=1e-12), (
                "the order of the rows matters"
            )
            alone = _values(measure, table.filter(pl.col("task_id") == task_id))
            assert math.isclose(value, alone[task_id], rel_tol=1e-9, abs_tol=1e-12), (
                "the other tasks matter"
            )


def draw_table(
    needs: str, seed: int = 0, *, n_tasks: int = 4, n_instances: int = 3, k: int = 4
) -> pl.DataFrame:
    """A table of the given kind, drawn with a seed.

    Args:
        needs: What it holds; a key of `INPUTS`.
        k: Perturbed prompts of each instance; the original comes on top.
    """
    kind, draw = INPUTS[needs], random.Random(seed)
    rows: list[dict[str, Any]] = []
    for task in range(n_tasks):
        for instance in range(n_instances):
            n_tokens = draw.randint(1, 20)
            for j in range(k + 1):
                prompt = {"task_id": f"t{task}", "instance_id": f"i{instance}", "perturbation": j}
                # References were decoded greedily under the original prompt.
                told = {"is_greedy": True} if j == 0 and "is_greedy" in kind.optional else {}
                rows += [prompt | rest | told for rest in kind.draw(draw, n_tokens)]
    return pl.DataFrame(rows, schema=kind.columns | kind.optional)


def _values(measure: Measure, table: pl.DataFrame) -> dict[str, float]:
    found = {}
    for task_id, task in tasks_of_table(table, measure.needs):
        value = measure.compute(task)
        assert value is not None, "measures nothing where there is something"
        found[task_id] = value
    return found
