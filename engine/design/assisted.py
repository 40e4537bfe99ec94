"""Ranking estimates: prompt uncertainty of all tasks at once, each helped by what the others say.

A task's mean move u_t is noisy, and its noise grows with its level. The model is a regression with
a log link and a random effect per task:

    u_t | theta_t: mean theta_t f_t, variance c_t theta_t^1.5
    log theta_t = b_0 + (1 + b_1) x_t + e_t,    e_t ~ N(0, tau^2),    b_1 ~ N(0, omega^2)

x_t is the logarithm of what first-order theory expects a move to be proportional to, and f_t what
it expects of the pairs that were scored beside all those of the design
(`engine.design.measurement`). The power lies between 1, that of counts, and 2, that of a constant
coefficient of variation (Tweedie, 1984): low levels are relatively noisier. Measured: 1.4 between
the real tasks in `benchmarks/data`, 2.1 between those of the bundled pool there. c_t comes from the
task's variance components, shrunk towards those of the pool. b, tau and omega come from the tasks
measured in this very scoring: an area-level model of small-area estimation (Fay and Herriot, 1979;
Rao and Molina, *Small Area Estimation*, 2015, chapter 6). It is fitted by
penalised quasi-likelihood (Breslow and Clayton, 1993): a normal model of the working response
y = log theta + (r - 1) / r, r = u / (f theta), with relative variance / r, iterated. tau and omega
are averaged over a grid by their marginal likelihood.

The plain mean stays what the measure's formula says; the estimate is for ranking. Where a design is
large, its variance is small and the two agree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.design.measurement import Expectation
from engine.variance.analysis import Analysis
from engine.variance.components import TYPICAL
from engine.variance.pooling import Analyses

Floats = NDArray[np.float64]

PRIOR_DEGREES = 30.0
"""Degrees of freedom that the pool's components weigh against a task's own table."""

_POWER = 1.5  # of the level, in the variance of a move
_TYPICAL_DEGREES = 20.0  # that proportions of `TYPICAL` weigh against what a pool says
_TAU2 = np.geomspace(0.01, 1.0, 12)
_TAU_SCALE = 1.0
"""Scale of the half-normal prior of tau (Gelman, 2006): theory is off by a factor of e."""

_OMEGA2 = np.array([1e-6, 0.01, 0.1, 1.0])

_FLAT = 1e-9  # precision of the intercept: none
_NOISE_FLOOR = 1e-9  # relative variance of a task that is measured completely
_LOWEST = math.log(1e-9)  # of levels: there those end whose moves are 0
_STEPS = 20


@dataclass(frozen=True, slots=True)
class Evidence:
    """What has been measured, one row per task.

    Attributes:
        tables: Their moves.
        expected: x, the logarithm of the expected move of the whole design up to a factor common to
            all tasks.
        exposure: log f, of what the scored pairs are expected to show beside the whole design.
        full_n: Instances of the whole design whose value is asked for; inf for a universe.
        full_k: Perturbations of it.
    """

    tables: Analyses
    expected: Floats
    exposure: Floats
    full_n: Floats
    full_k: Floats

    @classmethod
    def of(
        cls,
        tables: Sequence[Analysis],
        expected: Sequence[Expectation] | None = None,
        full: Sequence[tuple[float, float]] | None = None,
    ) -> Evidence:
        """Gathers it; what is left out is alike for all tasks, `full` endless."""
        each = expected or [Expectation(0.0, 0.0)] * len(tables)
        wholes = full or [(np.inf, np.inf)] * len(tables)
        return cls(
            tables=Analyses.of(tables),
            expected=np.array([expectation.whole for expectation in each]),
            exposure=np.array([expectation.exposure for expectation in each]),
            full_n=np.array([n for n, _ in wholes], dtype=float),
            full_k=np.array([k for _, k in wholes], dtype=float),
        )


@dataclass(frozen=True, slots=True)
class Estimates:
    """The posterior of the logarithm of prompt uncertainty, normal, one per task.

    Attributes:
        log_mean: Its mean.
        log_error: Its standard deviation.
        relative: Components relative to the squared level of each task, shape (tasks, 3).
    """

    log_mean: Floats
    log_error: Floats
    relative: Floats

    @property
    def value(self) -> Floats:
        """The ranking estimate, in units of probability: the posterior's median."""
        return np.exp(self.log_mean)

    @property
    def error(self) -> Floats:
        """Its standard error, in units of probability (delta method)."""
        return self.value * self.log_error


def variance(relative: Floats, n: Floats, k: Floats, cells: Floats) -> Floats:
    """Relative variance of a mean move; relative has shape (tasks, 3), the others (tasks,)."""
    return relative[:, 0] / n + relative[:, 1] / k + relative[:, 2] / cells


def remaining(evidence: Evidence, relative: Floats, n: Floats, k: Floats, cells: Floats) -> Floats:
    """Relative variance of a design about the value of the task's whole design, > 0.

    The instances and perturbations that have been measured are part of the whole, so its own
    variance is taken off (the finite population correction; Cochran, 1977, section 2.6).

    Args:
        evidence: The whole designs.
        relative: Components, shape (tasks, 3).
        n: Instances, effective ones; shape (tasks,) as the others.
        k: Perturbations, likewise.
        cells: Moves scored.
    """
    full_n, full_k = evidence.full_n, evidence.full_k
    whole = variance(relative, full_n, full_k, full_n * full_k)
    return np.maximum(variance(relative, n, k, cells) - whole, _NOISE_FLOOR)


def estimate(evidence: Evidence, start: Floats | None = None) -> Estimates:
    """Fits the model.

    Args:
        evidence: At least one task.
        start: Log levels to start from, those of an earlier fit.
    """
    tables, expected = evidence.tables, evidence.expected - evidence.expected.mean()
    middle = math.log(max(float(tables.mean.mean()), math.exp(_LOWEST)))
    level = np.full(len(tables.mean), middle) if start is None else np.maximum(start, _LOWEST)
    relative, error = _relative(tables, level), np.zeros_like(level)
    for _ in range(_STEPS):
        v = remaining(evidence, relative, tables.n, tables.k, tables.cells)
        # Bounds keep a working response finite while the fit is far off, and for moves of 0.
        ratio = np.clip(tables.mean * np.exp(-level - evidence.exposure), 0.05, 20.0)
        fitted, error = _posterior(level + (ratio - 1) / ratio, v / ratio, expected)
        step = np.clip(fitted - level, np.maximum(-1.0, _LOWEST - level), 1.0)
        level = level + step
        relative = _relative(tables, level)
        if np.abs(step).max() < 1e-3:
            break
    return Estimates(level, error, relative)


def _relative(tables: Analyses, level: Floats) -> Floats:
    """Each task's components over its squared level: its own shrunk to the pool's (Smyth, 2004)."""
    scale = np.exp(_POWER * level)
    of_pool = _pooled(tables, scale) * np.exp((_POWER - 2) * level)[:, None]
    own = np.where(tables.degrees > 0, tables.own, 0.0) * np.exp(-2 * level)[:, None]
    mixed = (tables.degrees * own + PRIOR_DEGREES * of_pool) / (tables.degrees + PRIOR_DEGREES)
    return np.asarray(np.maximum(0.0, mixed))


def _pooled(tables: Analyses, scale: Floats) -> Floats:
    """The pool's components over level^1.5, shape (3,); tasks weigh by their degrees of freedom.

    A task's own, over its fitted level, as Pearson's estimate of a dispersion (McCullagh and
    Nelder, *Generalized Linear Models*, 1989, section 4.5); `TYPICAL` beside them, in the size that
    variances of single moves have, which any two moves of a task tell.
    """
    typical = np.array(TYPICAL.values) * np.exp((2 / _POWER - 1) * np.log(scale).mean())
    m, degrees = tables.cells, tables.cells - 1
    shares = np.column_stack([m * (1 - 1 / tables.n), m * (1 - 1 / tables.k), degrees])
    told = shares @ typical
    found = np.where(degrees > 0, degrees * np.nan_to_num(tables.total), 0.0) / scale
    # What is typical weighs as one more move.
    typical = typical * (found.sum() + typical.sum()) / (told.sum() + typical.sum())
    own = np.where(tables.degrees > 0, tables.degrees * tables.own, 0.0) / scale[:, None]
    weights = tables.degrees.sum(axis=0) + _TYPICAL_DEGREES
    return np.asarray(np.maximum(0.0, (own.sum(axis=0) + _TYPICAL_DEGREES * typical) / weights))


def _posterior(y: Floats, s2: Floats, x: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation of each task's log level given responses y with variances s2.

    Averaged over the grid of (tau^2, omega^2) with weights from the marginal likelihood.
    """
    tau2, omega2 = (grid.ravel() for grid in np.meshgrid(_TAU2, _OMEGA2, indexing="ij"))
    z = np.column_stack([np.ones_like(x), x])
    above = y - x
    weight = 1 / (tau2[:, None] + s2)  # (points of the grid, tasks), as all below
    b, covariance, evidence = _coefficients(z, above, weight, omega2)
    # The grid is even in log tau.
    evidence += 0.5 * np.log(tau2) - tau2 / (2 * _TAU_SCALE**2)
    share = np.exp(evidence - evidence.max())
    share /= share.sum()
    # Between what b says and the task's own response, by how far each is to be trusted.
    prior, of_prior = b @ z.T, ((z @ covariance) * z).sum(axis=2)
    trust = tau2[:, None] * weight
    mean = prior + trust * (above - prior)
    var = trust * s2 + (1 - trust) ** 2 * of_prior
    centre = share @ mean
    return x + centre, np.sqrt(np.maximum(share @ (var + mean**2) - centre**2, 1e-12))


def _coefficients(
    z: Floats, above: Floats, weight: Floats, omega2: Floats
) -> tuple[Floats, Floats, Floats]:
    """The mean and covariance of b at every point of the grid, and the log marginal likelihood.

    Args:
        z: What b multiplies, shape (tasks, 2).
        above: The responses less x.
        weight: Their precision about z b, shape (points, tasks).
        omega2: The variance of b_1 at each point.
    """
    precision = np.column_stack([np.full_like(omega2, _FLAT), 1 / omega2])
    products = (z[:, :, None] * z[:, None, :]).reshape(-1, 4)
    gram = (weight @ products).reshape(-1, 2, 2) + np.eye(2) * precision[:, :, None]
    covariance: Floats = np.linalg.inv(gram).astype(float)
    right = (weight * above) @ z
    b = (covariance @ right[:, :, None])[:, :, 0]
    evidence = 0.5 * (
        np.log(weight).sum(axis=1)
        - (weight * above * above).sum(axis=1)
        + (right * b).sum(axis=1)
        - np.linalg.slogdet(gram)[1]
        + np.log(precision).sum(axis=1)
    )
    return b, covariance, evidence
