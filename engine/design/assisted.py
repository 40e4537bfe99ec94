"""Ranking estimates: prompt uncertainty of all tasks at once, each helped by what the others say.

A task's mean move u_t is noisy, and its noise grows with its level. The model is a gamma regression
with a log link and a random effect per task:

    u_t | theta_t ~ Gamma(mean theta_t, squared coefficient of variation v_t)
    log theta_t = b_0 + x_t' b + e_t,    e_t ~ N(0, tau^2),    b ~ N(0, omega^2) each

x_t are covariates that cost nothing (`engine.design.measurement`), standardised; v_t is the task's
relative variance for its design. All of b, tau and omega come from the tasks measured in this very
scoring, no outside data: an area-level model of small-area estimation (Fay and Herriot, 1979; Rao
and Molina, *Small Area Estimation*, 2015, chapter 6), here with a gamma likelihood, which suits
means of values that are never negative and gives little weight to a single small move. It is fitted
by penalised quasi-likelihood (Breslow and Clayton, 1993): a normal model of the working response
y = log theta + (r - 1) / r, r = u / theta, with variance v / r, iterated. tau and omega are
averaged over a grid by their marginal likelihood.

The plain mean stays what the measure's formula says; the estimate is for ranking. Where a design is
large, v is small and the two agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.design.analysis import Analysis
from engine.design.pooling import Analyses

Floats = NDArray[np.float64]

PRIOR_DEGREES = 30.0
"""Degrees of freedom that the pool's relative components weigh against a task's own table."""

_TAU = np.array([0.03, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4])
"""Variances of the random effect, in units of the variance between tasks."""

_OMEGA = np.array([1e-6, 0.1, 0.3, 1.0])
"""Standard deviations of a coefficient, in units of the standard deviation between tasks."""

_FLAT = 1e-9  # precision of the intercept: none
_NOISE_FLOOR = 1e-9  # v of a task that is measured completely
_STEPS = 20


@dataclass(frozen=True, slots=True)
class Evidence:
    """What has been measured, one row per task.

    Attributes:
        tables: Their moves.
        covariates: Shape (tasks, covariates).
        full_n: Instances of the whole design whose value is asked for; inf for a universe.
        full_k: Perturbations of it.
    """

    tables: Analyses
    covariates: Floats
    full_n: Floats
    full_k: Floats

    @classmethod
    def of(
        cls,
        tables: Sequence[Analysis],
        covariates: Sequence[Sequence[float]],
        full: Sequence[tuple[float, float]] | None = None,
    ) -> Evidence:
        """Gathers it; `full` is the whole design of each task, none: endless."""
        wholes = full or [(np.inf, np.inf)] * len(tables)
        return cls(
            tables=Analyses.of(tables),
            covariates=np.array(covariates, dtype=float).reshape(len(tables), -1),
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
    tables = evidence.tables
    pooled = np.array(tables.relative().values)
    own = np.where(tables.degrees > 0, tables.own, 0.0)
    middle = np.log(max(float(tables.mean.mean()), 1e-9))
    level = np.full(len(tables.mean), middle) if start is None else start
    relative, error = _shrunk(pooled, tables.degrees, own, level), np.zeros_like(level)
    z = _standardised(evidence.covariates)
    for _ in range(_STEPS):
        v = remaining(evidence, relative, tables.n, tables.k, tables.cells)
        # Bounds keep a working response finite while the fit is far off, and for moves of 0.
        ratio = np.clip(tables.mean * np.exp(-level), 0.05, 20.0)
        fitted, error = _posterior(level + (ratio - 1) / ratio, v / ratio, z)
        step = np.clip(fitted - level, -1.0, 1.0)
        level = level + step
        relative = _shrunk(pooled, tables.degrees, own, level)
        if np.abs(step).max() < 1e-3:
            break
    return Estimates(level, error, relative)


def _shrunk(pooled: Floats, degrees: Floats, own: Floats, level: Floats) -> Floats:
    """Each task's relative components, its own shrunk towards the pool's (Smyth, 2004)."""
    mine = own * np.exp(-2 * level)[:, None]
    mixed = (degrees * mine + PRIOR_DEGREES * pooled) / (degrees + PRIOR_DEGREES)
    return np.asarray(np.maximum(0.0, mixed))


def _standardised(covariates: Floats) -> Floats:
    """The regressors: 1, and each covariate with mean 0 and variance 1 over the tasks."""
    away = covariates - covariates.mean(axis=0)
    spread = np.sqrt((away**2).mean(axis=0))
    return np.column_stack([np.ones(len(away)), away / np.where(spread > 1e-9, spread, 1.0)])


def _posterior(y: Floats, s2: Floats, z: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation of each task's effect given responses y with variances s2.

    z are the regressors, shape (tasks, 1 + covariates).

    Averaged over the grid of (tau^2, omega^2) with weights from the marginal likelihood.
    """
    between = float(((y - y.mean()) ** 2).mean())
    total = max(between - float(s2.mean()), 0.2 * between, 1e-6)
    tau2, omega2 = (
        grid.ravel() for grid in np.meshgrid(_TAU * total, _OMEGA**2 * total, indexing="ij")
    )
    weight = 1 / (tau2[:, None] + s2)
    penalty = np.full((len(tau2), z.shape[1]), _FLAT)
    penalty[:, 1:] = 1 / omega2[:, None]
    moments = (z[:, :, None] * z[:, None, :]).reshape(len(y), -1)
    gram = (weight @ moments).reshape(len(tau2), z.shape[1], z.shape[1])
    gram = gram + np.eye(z.shape[1]) * penalty[:, :, None]
    covariance = np.linalg.inv(gram)
    right = (weight * y) @ z
    beta = (covariance @ right[:, :, None])[:, :, 0]
    evidence = 0.5 * (
        np.log(weight).sum(axis=1)
        - (weight * y * y).sum(axis=1)
        + (right * beta).sum(axis=1)
        - np.linalg.slogdet(gram)[1]
        + np.log(penalty).sum(axis=1)
    )
    share = np.exp(evidence - evidence.max())
    share /= share.sum()
    trust = tau2[:, None] * weight
    prior = beta @ z.T
    mean = prior + trust * (y - prior)
    of_prior = ((z @ covariance) * z).sum(axis=2)
    var = trust * s2 + (1 - trust) ** 2 * of_prior
    centre = share @ mean
    return centre, np.sqrt(np.maximum(share @ (var + mean**2) - centre**2, 1e-12))
