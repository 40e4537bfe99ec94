"""How much of a selection a repeat of the measurement would select again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import polars as pl

_DRAWS = 2_000
_AT_ONCE = 50
"""Draws held in memory together."""

Floats = NDArray[np.float64]


def expected_overlap(
    values: Sequence[float] | Floats,
    errors: Sequence[float] | Floats,
    n_select: int,
    *,
    shrunk: bool = False,
    seed: int = 0,
) -> float:
    """Share of the top `n_select` that a repeat would select again, expected, in [0, 1].

    A normal model by Monte-Carlo: a repeat of task t is drawn as `repeat_model` says, and its own
    top `n_select` is compared with the given one.

    Args:
        values: Measured prompt uncertainty, one per task.
        errors: Standard errors, one per task.
        shrunk: See `repeat_model`.
        n_select: How many are selected; 1 <= n_select.
        seed: Of the draws.
    """
    u, s = np.asarray(values, dtype=float), np.asarray(errors, dtype=float)
    mean, deviation = repeat_model(u, s, shrunk=shrunk)
    size = min(n_select, len(u))
    first, shared = top(u, size), 0
    rng = np.random.default_rng(seed)
    for _ in range(_DRAWS // _AT_ONCE):
        repeat = mean + deviation * rng.standard_normal((_AT_ONCE, len(u)))
        last = np.partition(repeat, -size, axis=1)[:, -size]
        shared += int((repeat[:, first] >= last[:, None]).sum())
    return shared / (_DRAWS * size)


def repeat_model(u: Floats, s: Floats, *, shrunk: bool = False) -> tuple[Floats, Floats]:
    """Mean and standard deviation of what a repeat of each measurement would give.

    The true value of task t has the posterior N(m + r_t (u_t - m), r_t s_t^2), where s_t is its
    standard error, m the mean of all u, v their variance less the mean s^2 (what the errors do not
    explain), and r_t = v / (v + s_t^2); a repeat adds the same error once more, s_t^2.

    Args:
        shrunk: u and s are mean and deviation d of that posterior already, as ranking estimates
            are. Then v is their variance and the mean d^2, and s_t^2 = d_t^2 / (1 - d_t^2 / v), at
            most 10 d_t^2.
    """
    if shrunk:
        v = max(float(u.var(ddof=1) + (s**2).mean()), np.finfo(float).tiny)
        # A task that is known less than others may have a d near v: of its error no more is asked.
        return u, s * np.sqrt(1 + 1 / np.maximum(1 - s**2 / v, 0.1))
    spread = max(0.0, float(u.var(ddof=1) - (s**2).mean())) if len(u) > 1 else 0.0
    known = spread + s**2 > 0
    reliability = np.where(known, spread / np.where(known, spread + s**2, 1.0), 1.0)
    return u.mean() + reliability * (u - u.mean()), np.sqrt(1 + reliability) * s


def top(values: Floats, n: int) -> NDArray[np.int64]:
    """Positions of the `n` largest values; equal ones in order of position."""
    return np.argsort(-values, kind="stable")[:n]


def repeat_in_words(scores: pl.DataFrame, selected: Collection[str]) -> str:
    """How far a selection by prompt uncertainty can be trusted, for a person.

    Args:
        scores: Columns `task_id`, `prompt_uncertainty` and `standard_error`, one row per task;
            those that hold null count for nothing.
        selected: Ids of the selected tasks.

    Returns:
        See `in_words`; empty where one that was left out is more uncertain than one of these.
    """
    names = ["prompt_uncertainty", "standard_error"]
    known = scores.drop_nulls(names)
    u, s = known.select(names).to_numpy().T
    chosen = known["task_id"].is_in(list(selected)).to_numpy()
    n_select = int(chosen.sum())
    if not n_select or u[chosen].min() < max(u[~chosen], default=0.0):
        return ""
    return in_words(expected_overlap(u, s, n_select), n_select, len(u))


def in_words(share: float, n_select: int, n_tasks: int) -> str:
    """The expected overlap as a sentence's end, beside what chance alone would come to.

    Args:
        share: Of `n_select`, see `expected_overlap`.
        n_tasks: Of which they were selected.
    """
    by_chance = n_select / n_tasks
    if n_select == 1:
        again, chance = (f"{100 * part:.0f} %" for part in (share, by_chance))
        return f"a repeat would pick it again in {again} of cases, chance alone in {chance}"
    digits = 0 if n_select >= 10 else 1  # half a task is much of a few
    again, chance = (f"{part * n_select:.{digits}f}" for part in (share, by_chance))
    return f"a repeat would pick about {again} of these {n_select} again, chance alone {chance}"
