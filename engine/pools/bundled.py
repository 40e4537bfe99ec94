"""The pool that ships with the package: small tasks, written for this project, quick on a CPU.

`bundled_pool/` is laid out as in the Super-NaturalInstructions repository: a copy of it is
a pool. The held-out tasks share no category with the training pool, so that gains on
them are gains on kinds of task never trained on.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from engine.pools.niv2 import load_niv2_task
from engine.pools.splits import official_names
from engine.tasks import Pool

__all__ = ["held_out_pool", "training_pool"]

_FOLDER = Path(__file__).parent / "bundled_pool"


@cache
def training_pool() -> Pool:
    """The 56 tasks to score, select from and train on, in the order of their list."""
    return _read("train", "bundled training pool")


@cache
def held_out_pool() -> Pool:
    """The 16 tasks to evaluate on, of categories that no training task has."""
    return _read("test", "bundled held-out pool")


def _read(split: str, source: str) -> Pool:
    names = official_names(_FOLDER, split)
    return Pool([load_niv2_task(_FOLDER / "tasks" / f"{name}.json") for name in names], source)
