"""How throughput grows with replicas: the Universal Scalability Law, fitted to measured points. Pure.

X(N) = λN / (1 + σ(N − 1) + κN(N − 1)) with σ for what has to wait in one line (contention) and κ for what replicas have
to agree on (coherency); N* = √((1 − σ)/κ) carries the most (Gunther, "A General Theory of Computational Scalability
Based on Rational Functions", arXiv:0808.1431, 2008). With κ = 0 it is Amdahl's law.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares, nnls

from shared.errors import ConfigError

LEAST_POINTS = 4
"""Different replica counts: three parameters go through any three points, which tells nothing of how well they fit."""
DRAWS = 400
NONE_AT_ALL = 1e-5
"""A coefficient whose interval reaches below this is not shown to be there."""
FAR_SHARE = 2.0

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Point:
    """Throughput that was held with so many replicas; ``error``: its standard error, None where it is not known."""

    replicas: int
    throughput: float
    error: float | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Scaling:
    """The fitted law. ``peak_replicas`` and ``peak_throughput`` are None where the points show no maximum.

    ``law``: ``usl``, ``amdahl`` (no coherency is shown; ``ceiling`` is the throughput it tends to) or ``linear``.
    ``fit``: share of the variance explained; ``misfit``: root mean square of the relative residuals.
    """

    law: Literal["usl", "amdahl", "linear"]
    per_replica: Estimate
    contention: Estimate
    coherency: Estimate
    peak_replicas: Estimate | None
    peak_throughput: Estimate | None
    ceiling: float | None
    fit: float
    misfit: float
    note: str = ""


def fit_scaling(points: Sequence[Point], seed: int = 0) -> Scaling:
    """Non-linear least squares with none of λ, σ, κ below 0; intervals by parametric bootstrap, the same for a seed.

    ``ConfigError`` for too few replica counts or a throughput that is not above 0.
    """
    counts = np.array([point.replicas for point in points], dtype=float)
    rates = np.array([point.throughput for point in points], dtype=float)
    if len(set(counts.tolist())) < LEAST_POINTS:
        raise ConfigError(
            f"scalability needs {LEAST_POINTS} different replica counts, and has {len(set(counts.tolist()))}: "
            "three parameters fit any three points"
        )
    if (rates <= 0).any() or (counts < 1).any():
        raise ConfigError("scalability: replicas and throughputs are above 0")
    best = _fit(counts, rates)
    drawn = _draw(counts, rates, best, points, seed)
    per_replica, contention, coherency = (_estimate(best[i], drawn[:, i]) for i in range(3))
    predicted = _law(counts, best)
    scaling = Scaling(
        "usl",
        per_replica,
        contention,
        coherency,
        None,
        None,
        None,
        fit=1 - float(((rates - predicted) ** 2).sum() / max(((rates - rates.mean()) ** 2).sum(), 1e-12)),
        misfit=float(np.sqrt((((rates - predicted) / rates) ** 2).mean())),
    )
    return _with_peak(scaling, counts, best, drawn)


def predict(scaling: Scaling, replicas: float) -> float:
    """Throughput by the fitted law."""
    parameters = (scaling.per_replica.value, scaling.contention.value, scaling.coherency.value)
    return float(_law(np.array([replicas]), np.array(parameters))[0])


def _law(counts: Floats, parameters: Floats) -> Floats:
    per_replica, contention, coherency = parameters
    held: Floats = per_replica * counts / (1 + contention * (counts - 1) + coherency * counts * (counts - 1))
    return held


def _fit(counts: Floats, rates: Floats) -> Floats:
    """Least squares of relative residuals, since throughputs err in proportion."""
    begin = _fit_inverse(counts, rates)
    scale = np.array([begin[0], 1.0, 1.0])

    def residuals(parameters: Floats) -> Floats:
        return _law(counts, parameters * scale) / rates - 1

    start = np.maximum(begin / scale, [1e-6, 1e-6, 1e-9])
    found = least_squares(residuals, start, bounds=([1e-9, 0, 0], [np.inf, np.inf, np.inf]), x_scale=(1, 0.1, 0.01))
    best: Floats = found.x * scale
    # On its bounds the search stops short of 0; the inverse fit reaches them.
    return begin if float((residuals(begin / scale) ** 2).sum()) <= 2 * found.cost else best


def _fit_inverse(counts: Floats, rates: Floats) -> Floats:
    """The same by N/X, which is linear in 1/λ, σ/λ and κ/λ: exact where the points are, and at once."""
    weights = rates / counts
    terms = np.column_stack([np.ones_like(counts), counts - 1, counts * (counts - 1)]) * weights[:, None]
    (base, waiting, agreeing), _ = nnls(terms / terms.max(axis=0), np.ones_like(counts))
    each = np.array([base, waiting, agreeing]) / terms.max(axis=0)
    inverse = max(float(each[0]), 1e-12)
    return np.array([1 / inverse, each[1] / inverse, each[2] / inverse])


def _draw(counts: Floats, rates: Floats, best: Floats, points: Sequence[Point], seed: int) -> Floats:
    """Fits to throughputs drawn about the fitted ones, as far off as they were measured or turned out to be."""
    random = np.random.default_rng(seed)
    predicted = _law(counts, best)
    free = max(1, len(points) - 3)
    scatter = math.sqrt(float(((rates / predicted - 1) ** 2).sum()) / free)
    measured = np.array([(point.error or 0.0) / point.throughput for point in points])
    spread = np.maximum(measured, scatter)
    noise = np.clip(random.standard_normal((DRAWS, len(points))) * spread, -0.9, None)
    return np.array([_fit_inverse(counts, predicted * (1 + one)) for one in noise])


def _with_peak(scaling: Scaling, counts: Floats, best: Floats, drawn: Floats) -> Scaling:
    if scaling.coherency.low < NONE_AT_ALL or best[1] >= 1:
        return _without_peak(scaling, best)
    shown = drawn[(drawn[:, 2] > NONE_AT_ALL) & (drawn[:, 1] < 1)]
    peaks = np.sqrt((1 - shown[:, 1]) / shown[:, 2])
    tops = np.array([_law(np.array([peak]), one)[0] for peak, one in zip(peaks, shown, strict=True)])
    peak = math.sqrt((1 - best[1]) / best[2])
    note = ""
    if peak > FAR_SHARE * counts.max():
        note = f"the maximum lies far beyond the {counts.max():.0f} replicas that were tried"
    return replace(
        scaling,
        peak_replicas=_estimate(peak, peaks),
        peak_throughput=_estimate(float(_law(np.array([peak]), best)[0]), tops),
        note=note,
    )


def _without_peak(scaling: Scaling, best: Floats) -> Scaling:
    """κ is not told from 0: more replicas always carry more, ever less where σ is there, alike where it is not."""
    if scaling.contention.low < NONE_AT_ALL:
        return replace(scaling, law="linear", note="neither contention nor coherency is shown: it grows in proportion")
    ceiling = float(best[0] / best[1])
    return replace(scaling, law="amdahl", ceiling=ceiling, note="no coherency is shown, so no maximum: Amdahl's law")


def _estimate(value: float, drawn: Floats) -> Estimate:
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(float(value), min(float(low), float(value)), max(float(high), float(value)))
