"""Means over repeats, and how far to trust them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, variance

from engine.tasks import Record

_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""97.5 % quantiles of Student's t with 1, 2, ... degrees of freedom."""


class Repeated(Record):
    """A mean over repeats.

    Attributes:
        mean: The mean.
        margin: Within it lies the mean of as many repeats more, in 19 of 20 cases, if nothing but
            chance is another (a prediction interval of normal values); None of a single one.
    """

    mean: float
    margin: float | None


def repeated(values: Sequence[float]) -> Repeated:
    """The mean of at least one value."""
    n = len(values)
    if n < 2:
        return Repeated(mean=values[0], margin=None)
    spread = math.sqrt(variance(values) * 2 / n)
    return Repeated(mean=fmean(values), margin=t_quantile(n - 1) * spread)


class Ratio(Record):
    """How one mean relates to another.

    Attributes:
        value: The ratio.
        low: Lower end of its interval at 95 %; None where one of the two was not repeated.
        high: Upper end.
    """

    value: float
    low: float | None = None
    high: float | None = None


def ratio(values: Sequence[float], base: Sequence[float]) -> Ratio | None:
    """The ratio of two means of independent repeats; None where one is not above 0.

    Its interval is that of the difference of logarithms, by the delta method and Welch's degrees of
    freedom.
    """
    above, below = fmean(values), fmean(base)
    if above <= 0 or below <= 0:
        return None
    value = above / below
    if min(len(values), len(base)) < 2:
        return Ratio(value=value)
    parts = [
        (variance(each) / mean**2 / len(each), len(each) - 1)
        for each, mean in ((values, above), (base, below))
    ]
    total = sum(part for part, _ in parts)
    if not total:
        return Ratio(value=value, low=value, high=value)
    degrees = total**2 / sum(part**2 / n for part, n in parts)
    half = t_quantile(max(1, math.floor(degrees))) * math.sqrt(total)
    return Ratio(value=value, low=value * math.exp(-half), high=value * math.exp(half))


def t_quantile(degrees: int) -> float:
    """Student's t, 97.5 %; for ten degrees of freedom and more by Cornish and Fisher's series."""
    if degrees <= len(_T):
        return _T[degrees - 1]
    z = 1.959964
    return (
        z
        + (z**3 + z) / (4 * degrees)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * degrees**3)
    )


def t_beyond(t: float, degrees: int) -> float:
    """Share of Student's t that lies farther from 0 than `t` >= 0, on both sides together.

    Its finite sums for whole degrees of freedom (Abramowitz and Stegun, 1964, 26.7.3 and 26.7.4).
    """
    angle, odd = math.atan(t / math.sqrt(degrees)), degrees % 2
    cosine, total = math.cos(angle), 0.0
    term = cosine**odd
    for power in range(odd, degrees - 1, 2):
        total += term
        term *= cosine**2 * (power + 1) / (power + 2)
    within = math.sin(angle) * total
    return max(0.0, 1 - (2 / math.pi * (angle + within) if odd else within))
