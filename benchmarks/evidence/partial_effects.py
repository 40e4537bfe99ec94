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
        test: Whether to permute, too: the residuals of the model without x (Freedman and Lane,
            1983), with the coefficient over its HC3 error as what is compared (DiCiccio and
            Romano, 2017), so that p and interval rest on one error.

    Raises:
        ValueError: If there are fewer than two observations more than coefficients.
    """
    design = with_ones(x, *others)
    n, k = design.shape
    if n < k + 2:
        raise ValueError(f"{n} observations for {k} coefficients")
    inverse = np.linalg.pinv(design.T @ design)
    hat = design @ inverse @ design.T
    of_x = (inverse @ design.T)[1]

    def fitted(outcomes: Floats) -> tuple[Floats, Floats]:
        """Coefficient and error for each column of outcomes."""
        left = (outcomes - hat @ outcomes) / (1 - np.diag(hat))[:, None]
        return of_x @ outcomes, np.sqrt((of_x**2) @ left**2)

    (value,), (error,) = (each.tolist() for each in fitted(y[:, None]))
    half = t_quantile(n - k) * error
    p = None
    if test:
        base = with_ones(*others) if others else np.ones((n, 1))
        drawn = _permuted(y - base @ np.linalg.lstsq(base, y, rcond=None)[0])
        values, errors = fitted(drawn)
        p = _share_beyond(np.abs(values / errors), abs(value / error))
    return Effect(value, value - half, value + half, p)


def _permuted(residuals: Floats) -> Floats:
    """Shape (observations, draws)."""
    rng = np.random.default_rng(0)
    return rng.permuted(np.tile(residuals, (N_PERMUTATIONS, 1)), axis=1).T


def _share_beyond(drawn: Floats, seen: float) -> float:
    return (1 + int((drawn >= seen - 1e-12).sum())) / (1 + N_PERMUTATIONS)


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

    seen = float(share(left[:, None])[0])
    return seen, _share_beyond(share(_permuted(left)), seen)


@dataclass(frozen=True)
class TaskEffects:
    """What single tasks do to the score, as random effects.

    Attributes:
        fixed: The coefficients of the design, if its tasks are a sample of tasks like these. An
            interval holds those of every spread inside its own: few runs tell the spread badly.
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
    inside = np.flatnonzero(likelihoods >= likelihoods[best] - _Z**2 / 2)
    spread, low, high = (
        float(np.sqrt(ratios[at] * fits[at][3])) for at in (best, inside[0], inside[-1])
    )
    t = t_quantile(max(2, members.shape[1] - k))
    values, errors = (
        np.array(each)
        for each in zip(*((fits[at][1], np.sqrt(np.diag(fits[at][2]))) for at in inside),
                        strict=True)
    )  # fmt: skip
    lows, highs = (values - t * errors).min(axis=0), (values + t * errors).max(axis=0)
    effects = tuple(
        Effect(*each) for each in zip(*map(np.ndarray.tolist, (fits[best][1], lows, highs)),
                                      strict=True)
    )  # fmt: skip
    return TaskEffects(effects, spread, low, high, float(np.sqrt(fits[best][3])))


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


def left_to_explain(repeats: Effect, degrees: int, uniform: Floats) -> Effect:
    """Share of the variance over uniform subsets that their seeds do not make; below 0 where seeds
    happened to make more. The interval is that of a ratio of two variances of normal numbers.

    Args:
        repeats: Standard deviation of runs of one subset.
        degrees: Of freedom that it rests on.
        uniform: One outcome for each of the runs on uniform subsets.
    """
    ratio = repeats.value**2 / float(uniform.var(ddof=1))
    chance = np.random.default_rng(0).f(degrees, len(uniform) - 1, size=1_000_000)
    low, high = np.quantile(chance, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Effect(1 - ratio, float(1 - ratio / low), float(1 - ratio / high))


def of_sample(values: Sequence[float]) -> Effect:
    """The mean of a sample, two values at least, with Student's interval."""
    array = np.array(values)
    half = t_quantile(len(array) - 1) * float(array.std(ddof=1) / np.sqrt(len(array)))
    return Effect(float(array.mean()), float(array.mean()) - half, float(array.mean()) + half)


def best_of(n_tasks: int, n_select: int) -> float:
    """Mean of the largest of normal numbers, in standard deviations (Blom, 1958)."""
    places = (np.arange(n_tasks - n_select + 1, n_tasks + 1) - 0.375) / (n_tasks + 0.25)
    return float(np.mean([NormalDist().inv_cdf(place) for place in places]))
