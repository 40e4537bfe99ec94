"""Which instances meet which perturbations: all of them, or an incomplete design.

In a crossed design every perturbed prompt is scored with every instance. In an incomplete one each
meets r of the n instances, those used least so far, so that all instances are used equally often
up to one (a random balanced incomplete design; Brennan, *Generalizability Theory*, 2001, chapter 7,
treats what is estimated from tables with holes). Pairs saved on the crossing pay for further
instances and perturbations, which is where the variance of prompt uncertainty comes from.
"""

from __future__ import annotations

import random
from collections.abc import Sequence


def least_used(used: Sequence[int], r: int, draw: str) -> tuple[int, ...]:
    """The next r instances, those used least; equal ones in a random order.

    Args:
        used: How often each instance has been used.
        r: How many to take; all where there are fewer.
        draw: Seed of the random order.

    Returns:
        Positions, ascending.
    """
    order = random.Random(draw).sample(range(len(used)), len(used))
    return tuple(sorted(sorted(order, key=used.__getitem__)[:r]))


def incidence(task_id: str, n: int, k: int, r: int | None, seed: int) -> list[tuple[int, ...]]:
    """The instances that each of the perturbations 1..k meets.

    The instances of a perturbation do not depend on k: a larger design holds the smaller one.

    Args:
        task_id: The task; each has a draw of its own.
        n: Instances.
        k: Perturbations.
        r: Instances per perturbation; None for all of them.

    Returns:
        k tuples of positions in 0..n-1, ascending.
    """
    if r is None or r >= n:
        return [tuple(range(n))] * k
    used = [0] * n
    columns = []
    for j in range(1, k + 1):
        chosen = least_used(used, r, f"cells/{seed}/{task_id}/{j}")
        for position in chosen:
            used[position] += 1
        columns.append(chosen)
    return columns
