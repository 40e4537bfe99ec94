"""Linear models of a datamodel: partial effects, task effects, the seed's own variance.

numpy is enough: two least squares and a likelihood of one parameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from benchmarks.evidence.task_subsets import Floats
from engine.bench.repeats import t_quantile

LEVEL = 0.95
_Z = NormalDist().inv_cdf(0.5 + LEVEL / 2)
N_PERMUTATIONS = 10_000


@dataclass(frozen=True)
class Effect:
    """A coefficient with its interval at `LEVEL`.

    Attributes:
        p: Two-sided, by permutation; none where it was not asked for.
    """

    value: float
    low: float
    high: float
    p: float | None = None

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2

    def shown(self, digits: int = 2) -> str:
        """The value, and its interval in brackets."""
        return f"{self.value:+.{digits}f} [{self.low:+.{digits}f}, {self.high:+.{digits}f}]"


def with_ones(*columns: Floats) -> Floats:
    """A design of an intercept and these columns."""
    return np.column_stack([np.ones(len(columns[0])), *columns])


def partial_effect(y: Floats, x: Floats, *others: Floats, test: bool = False) -> Effect:
    """The coefficient of x beside others, with the HC3 variance (MacKinnon and White, 1985).

    Args:
        y: One outcome per subset.
        test: Whether to permute, too.

    Raises:
        ValueError: If there are fewer than two observations more than coefficients.
    """
    design = with_ones(x, *others)
    n, k = design.shape
    if n < k + 2:
        raise ValueError(f"{n} observations for {k} coefficients")
    inverse = np.linalg.pinv(design.T @ design)
    value = inverse @ design.T @ y
    leverage = np.einsum("ij,jk,ik->i", design, inverse, design)
    weights = ((y - design @ value) / (1 - leverage)) ** 2
    variance = inverse @ (design.T * weights) @ design @ inverse
    half = t_quantile(n - k) * float(np.sqrt(variance[1, 1]))
    p = added(y, with_ones(*others) if others else np.ones((n, 1)), x[:, None])[1] if test else None
    return Effect(float(value[1]), float(value[1]) - half, float(value[1]) + half, p)


def added(y: Floats, base: Floats, more: Floats) -> tuple[float, float]:
    """What further columns explain: share of the variance that `base` leaves, and p.

    p is by permuting the residuals of the smaller model (Freedman and Lane, 1983).
    """
    left = y - base @ np.linalg.lstsq(base, y, rcond=None)[0]
    basis = np.linalg.qr(base)[0]
    fresh = np.linalg.qr(more - basis @ (basis.T @ more))[0]

    def share(residuals: Floats) -> Floats:
        """Of residuals, shape (observations, draws)."""
        free = residuals - basis @ (basis.T @ residuals)
        return np.asarray(((fresh.T @ free) ** 2).sum(axis=0) / (free**2).sum(axis=0))

    rng = np.random.default_rng(0)
    drawn = rng.permuted(np.tile(left, (N_PERMUTATIONS, 1)), axis=1).T
    seen = float(share(left[:, None])[0])
    more_extreme = int((share(drawn) >= seen - 1e-12).sum())
    return seen, (1 + more_extreme) / (1 + N_PERMUTATIONS)


@dataclass(frozen=True)
class TaskEffects:
    """What single tasks do to the score, as random effects.

    Attributes:
        fixed: The coefficients of the design, if its tasks are a sample of tasks like these.
        spread: Standard deviation of a task's effect on a score, if it were trained on alone: a
            subset's score is the mean of those of its tasks, and noise.
        low, high: Its profile interval at `LEVEL`.
        noise: Standard deviation of one run that neither tasks nor the design explain.
    """

    fixed: tuple[Effect, ...]
    spread: float
    low: float
    high: float
    noise: float


def task_effects(y: Floats, design: Floats, members: Floats) -> TaskEffects:
    """Restricted maximum likelihood of y = design b + share of each task * effect + noise.

    Args:
        y: One outcome per run.
        design: Columns of the runs, intercept included.
        members: Share of each task in each run, rows that add up to 1.
    """
    n, k = design.shape
    kernel = members @ members.T
    ratios = np.concatenate([[0.0], np.geomspace(1e-2, 1e5, 241)])
    fits = [_restricted(y, design, np.eye(n) + ratio * kernel) for ratio in ratios]
    likelihoods = np.array([fit[0] for fit in fits])
    best = int(likelihoods.argmax())
    _, fixed, covariance, noise = fits[best]
    inside = np.flatnonzero(likelihoods >= likelihoods[best] - _Z**2 / 2)
    spread, low, high = (
        float(np.sqrt(ratios[at] * fits[at][3])) for at in (best, inside[0], inside[-1])
    )
    half = t_quantile(max(2, members.shape[1] - k)) * np.sqrt(np.diag(covariance))
    effects = tuple(
        Effect(float(b), float(b - h), float(b + h)) for b, h in zip(fixed, half, strict=True)
    )
    return TaskEffects(effects, spread, low, high, float(np.sqrt(noise)))


def _restricted(y: Floats, design: Floats, relative: Floats) -> tuple[float, Floats, Floats, float]:
    """Log-likelihood, coefficients, their covariance, and the variance of the noise."""
    n, k = design.shape
    root = np.linalg.cholesky(relative)
    x, z = np.linalg.solve(root, design), np.linalg.solve(root, y)
    cross = x.T @ x
    fixed = np.linalg.solve(cross, x.T @ z)
    noise = float(((z - x @ fixed) ** 2).sum() / (n - k))
    logdets = 2 * np.log(np.diag(root)).sum() + np.linalg.slogdet(cross)[1]
    likelihood = -((n - k) * np.log(noise) + logdets) / 2
    return float(likelihood), fixed, np.linalg.inv(cross) * noise, noise


def spread_of_repeats(groups: Sequence[Sequence[float]]) -> Effect | None:
    """Standard deviation within groups of runs that differ in their seed; none without repeats.

    The interval is that of a variance of normal numbers, by Wilson and Hilferty (1931).
    """
    repeated = [np.array(group) for group in groups if len(group) > 1]
    degrees = sum(len(group) - 1 for group in repeated)
    if not degrees:
        return None
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in repeated)
    part = 2 / (9 * degrees)
    low, high = (
        np.sqrt(squares / max(1e-9, degrees * (1 - part + sign * _Z * np.sqrt(part)) ** 3))
        for sign in (1, -1)
    )
    return Effect(float(np.sqrt(squares / degrees)), float(low), float(high))


def best_of(n_tasks: int, n_select: int) -> float:
    """Mean of the largest of normal numbers, in standard deviations (Blom, 1958)."""
    places = (np.arange(n_tasks - n_select + 1, n_tasks + 1) - 0.375) / (n_tasks + 0.25)
    return float(np.mean([NormalDist().inv_cdf(place) for place in places]))
