"""What is offered to a service, from the requests of each second: how much, how suddenly, how unevenly. Pure.

At saturation a service answers what it can, so offered = answered + growth of what is inside (Little's books, not his
law). All that is told of burstiness is measured here on the arrivals themselves; ``sizing`` turns it into replicas.
"""

import math

import numpy as np
from numpy.typing import NDArray

from services.scaler.situation import Demand
from shared.contracts.scaling_rules import Sizing

REMEMBERED_S = 900
"""How far back forecasts are compared with what came."""

PROVEN = 2.0
"""Standard errors by which a window must exceed the usual rate, or a trend nothing, to be believed."""

EVENNESS_S = 300
"""The dispersion is that of so many seconds."""

SHORTFALL = 0.9
"""Share of the forecasts that fell short by no more than ``surge``. One jump within the memory is no surge: it is under
way for a start-up time and a stable window, a tenth of what is remembered."""

SMOOTH_S = 2
"""A burst counts as the mean of so many seconds: a shorter one waits in line for less than that."""

WINDOWS_S = (1, 2, 3, 4, 6, 10, 15, 20, 30)
LEAST_S = 3
LEAST_TREND_S = 20


def demand(offered: NDArray[np.float64], waiting: float, service_s: float, sizing: Sizing) -> Demand | None:
    """Of requests per second, oldest first, up to now; None before there are ``LEAST_S`` of them."""
    offered = offered[-REMEMBERED_S:]
    if len(offered) < LEAST_S:
        return None
    sums = np.concatenate(([0.0], np.cumsum(offered)))
    stable, panic = _mean(sums, round(sizing.panic.stable)), _mean(sums, round(sizing.panic.window))
    dispersion = _dispersion(offered[-EVENNESS_S:])
    ago_s = _panic_ago(sums, dispersion, sizing)
    rate = max(stable, *(_proven(sums, window, dispersion) for window in WINDOWS_S if window <= len(offered)))
    if ago_s is not None:
        rate = max(rate, panic)
    trend = _trend(offered[-round(sizing.panic.stable) :], dispersion)
    ahead_s = min(sizing.panic.stable, len(offered)) / 2 + sizing.start_up
    return Demand(
        stable=_rounded(stable),
        panic=_rounded(panic),
        rate=_rounded(rate),
        forecast=_rounded(max(rate, stable + trend * ahead_s)),
        dispersion=_rounded(dispersion),
        surge=_rounded(_surge(sums, sizing)),
        panic_ago_s=ago_s,
        service_s=_rounded(service_s),
        waiting=_rounded(waiting),
    )


def _mean(sums: NDArray[np.float64], window: int) -> float:
    span = min(window, len(sums) - 1)
    return float(sums[-1] - sums[-1 - span]) / span


def _dispersion(offered: NDArray[np.float64]) -> float:
    """Variance over mean, the variance by differences of neighbours (von Neumann), which no slow change enters."""
    mean = float(offered.mean())
    return max(1.0, float(np.var(np.diff(offered))) / 2 / mean) if mean > 0 else 1.0


def _proven(sums: NDArray[np.float64], window: int, dispersion: float) -> float:
    """The lower bound of the rate of the last so many seconds."""
    rate = _mean(sums, window)
    return rate - PROVEN * math.sqrt(dispersion * max(rate, 1 / window) / window)


def _panic_ago(sums: NDArray[np.float64], dispersion: float, sizing: Sizing) -> float | None:
    """Seconds since the short window last held, beyond chance, ``factor`` times the long one before; None when longer
    than ``stable``, which is when the long one has caught up. Of the seconds alone, so a restart forgets nothing."""
    short, long = round(sizing.panic.window), round(sizing.panic.stable)
    last = len(sums) - 1
    ends = np.arange(max(short + 1, last - long), last + 1)
    if len(ends) == 0:
        return None
    rates = (sums[ends] - sums[ends - short]) / short
    starts = np.maximum(ends - short - long, 0)
    usual = (sums[ends - short] - sums[starts]) / (ends - short - starts)
    bound = rates - PROVEN * np.sqrt(dispersion * np.maximum(rates, 1 / short) / short)
    sudden = ends[(bound >= sizing.panic.factor * usual) & (usual > 0)]
    return float(last - sudden[-1]) if len(sudden) else None


def _trend(offered: NDArray[np.float64], dispersion: float) -> float:
    """Growth in requests/s per second that is proved and that the last quarter, which a jump has left behind first,
    does not rule out; never below 0."""
    if len(offered) < LEAST_TREND_S:
        return 0.0
    slope, error = _slope(offered, dispersion)
    last, last_error = _slope(offered[-len(offered) // 4 :], dispersion)
    return max(0.0, min(slope - PROVEN * error, last + PROVEN * last_error))


def _slope(offered: NDArray[np.float64], dispersion: float) -> tuple[float, float]:
    """By least squares, with its standard error."""
    seconds = np.arange(len(offered)) - (len(offered) - 1) / 2
    spread = float(seconds @ seconds)
    return float(seconds @ offered) / spread, math.sqrt(dispersion * max(float(offered.mean()), 0.1) / spread)


def _surge(sums: NDArray[np.float64], sizing: Sizing) -> float:
    """By how much the rate a start-up time later exceeded the stable mean, in roots of that mean."""
    long, ahead = round(sizing.panic.stable), round(sizing.start_up)
    moments = np.arange(long, len(sums) - ahead - SMOOTH_S)
    if len(moments) == 0:
        return 0.0
    usual = (sums[moments] - sums[moments - long]) / long
    came = (sums[moments + ahead + SMOOTH_S] - sums[moments + ahead]) / SMOOTH_S
    return max(0.0, float(np.quantile((came - usual) / np.sqrt(np.maximum(usual, 0.5)), SHORTFALL)))


def _rounded(value: float) -> float:
    return round(value, 6)
