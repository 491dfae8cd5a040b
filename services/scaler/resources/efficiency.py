"""How much work comes out of what is used: requests per CPU-second, cost per thousand requests, slack; and how it goes.

Of one service, system or everything over a run or a day. Cost is that of what is used, CPU-seconds and MB-seconds, at
the prices of ``config/scaling.yaml``; without prices these two stand for it. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
from scipy import stats

from shared.contracts.prices import Prices

LEAST_POINTS = 4
"""Of a trend: fewer say nothing."""
TREND_P = 0.05
PER = 1000.0


@dataclass(frozen=True, slots=True)
class Efficiency:
    """``of``: a service, a system, or ``all``. ``span``: the run or the day (ISO) it is of.

    ``counted_by``: whether requests are those the service itself counted (``service``), which holds the calls of other
    services too, or those that runs sent to its system (``runs``); empty where none were counted. Each figure is None
    where one of its parts is not known. ``cost_per_thousand``: in the prices' currency.
    """

    of: str
    kind: Literal["service", "system", "all"]
    span: str
    since: datetime
    until: datetime
    requests: float | None
    counted_by: Literal["service", "runs", ""]
    cpu_core_s: float | None
    memory_mb_s: float | None
    requests_per_cpu_s: float | None
    cpu_s_per_thousand: float | None
    memory_mb_s_per_thousand: float | None
    cost: float | None
    cost_per_thousand: float | None
    cpu_slack: float | None
    memory_slack: float | None


@dataclass(frozen=True, slots=True)
class Consumption:
    """What was used over a span; slack as a share of what is held."""

    cpu_core_s: float | None
    memory_mb_s: float | None
    requests: float | None
    counted_by: Literal["service", "runs", ""]
    cpu_slack: float | None = None
    memory_slack: float | None = None


@dataclass(frozen=True, slots=True)
class Trend:
    """How one figure went over spans in order of time: ``change`` from the first to the last by the median slope (Sen),
    as a share of the median; ``p_value`` of Mann-Kendall, two-sided."""

    of: str
    figure: str
    points: int
    change: float
    p_value: float

    @property
    def direction(self) -> Literal["better", "worse", "steady"]:
        if self.p_value >= TREND_P:
            return "steady"
        rises = self.change > 0
        return "better" if rises is (self.figure == "requests_per_cpu_s") else "worse"


def measure(
    of: str,
    kind: Literal["service", "system", "all"],
    span: tuple[str, datetime, datetime],
    used: Consumption,
    prices: Prices | None,
) -> Efficiency:
    """The figures of one span."""
    name, since, until = span
    cost = None
    if prices is not None and used.cpu_core_s is not None and used.memory_mb_s is not None:
        cost = prices.cost(used.cpu_core_s, used.memory_mb_s)
    return Efficiency(
        of=of,
        kind=kind,
        span=name,
        since=since,
        until=until,
        requests=used.requests,
        counted_by=used.counted_by,
        cpu_core_s=used.cpu_core_s,
        memory_mb_s=used.memory_mb_s,
        requests_per_cpu_s=_share(used.requests, used.cpu_core_s),
        cpu_s_per_thousand=_share(used.cpu_core_s, used.requests, PER),
        memory_mb_s_per_thousand=_share(used.memory_mb_s, used.requests, PER),
        cost=cost,
        cost_per_thousand=_share(cost, used.requests, PER),
        cpu_slack=used.cpu_slack,
        memory_slack=used.memory_slack,
    )


def find_trends(spans: Sequence[Efficiency]) -> list[Trend]:
    """Of each service, system and all, how requests per CPU-second and cost went; ``spans`` in order of time."""
    found = []
    for of, kind in dict.fromkeys((one.of, one.kind) for one in spans):
        its = [one for one in spans if (one.of, one.kind) == (of, kind)]
        for figure in ("requests_per_cpu_s", "cost_per_thousand"):
            told = [(one.since.timestamp(), value) for one in its if (value := getattr(one, figure)) is not None]
            if len(told) >= LEAST_POINTS:
                found.append(_trend(of, figure, np.array(told)))
    return found


def _trend(of: str, figure: str, told: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> Trend:
    at, values = told[:, 0], told[:, 1]
    slope = float(stats.theilslopes(values, at)[0])
    middle = float(np.median(values))
    chance = float(stats.kendalltau(at, values).pvalue)
    change = slope * float(at[-1] - at[0]) / middle if middle else 0.0
    return Trend(of, figure, len(values), change, 1.0 if np.isnan(chance) else chance)


def _share(part: float | None, whole: float | None, times: float = 1.0) -> float | None:
    return None if part is None or not whole else part / whole * times
