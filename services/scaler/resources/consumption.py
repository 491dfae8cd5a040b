"""From what services used and runs sent to the efficiency of a span, of each service, each system and all. Pure."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import fmean
from typing import Literal

from services.scaler.resources.efficiency import Consumption, Efficiency, measure
from services.scaler.resources.usage import Slack, sum_steps
from shared.contracts.prices import Prices
from shared.store.figures import Served, UsageDay, UsageStep

METRICS = ("cpu_cores", "memory_usage", "request_rate", "cpu_usage", "memory_ratio")
"""What the efficiency of a day is made of."""
DAY = timedelta(days=1)
Sums = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Span:
    """What efficiency is told of: a run or a day (ISO), or ``now`` for what was asked for."""

    name: str
    since: datetime
    until: datetime


def measure_span(
    span: Span,
    step: timedelta,
    steps: Sequence[UsageStep],
    served: Iterable[Served],
    slacks: Mapping[str, Mapping[str, Slack]],
    prices: Prices | None,
) -> list[Efficiency]:
    """``step``: the length of those in ``steps``. ``slacks``: by service, as its usage tells them."""
    by_service: dict[str, list[UsageStep]] = defaultdict(list)
    for one in steps:
        by_service[one.service].append(one)
    used = {
        service: {metric: math.fsum(told.values()) * step.total_seconds() for metric, told in sum_steps(its).items()}
        for service, its in by_service.items()
    }
    shares = {service: {name: slack.share for name, slack in its.items()} for service, its in slacks.items()}
    systems = {service: its[0].system for service, its in by_service.items()}
    return _measure(span, used, shares, systems, served, prices)


def measure_days(days: Sequence[UsageDay], served: Iterable[Served], prices: Prices | None) -> list[Efficiency]:
    """Every day of UTC in order; slack is what the 95th percentile leaves of the limit, mean over replicas."""
    requests = list(served)
    found = []
    for day in sorted({one.at for one in days}):
        its = [one for one in days if one.at == day]
        used: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        ratios: dict[tuple[str, str], list[float]] = defaultdict(list)
        for one in its:
            used[one.service][one.metric] += one.mean * one.minutes * 60
            ratios[one.service, one.metric].append(one.p95)
        shares = {
            service: {
                name: 1 - fmean(ratios[service, metric])
                for name, metric in (("cpu", "cpu_usage"), ("memory", "memory_ratio"))
                if (service, metric) in ratios
            }
            for service in used
        }
        span = Span(f"{day:%Y-%m-%d}", day, day + DAY)
        systems = {one.service: one.system for one in its}
        found += _measure(span, used, shares, systems, [one for one in requests if one.at == day], prices)
    return found


def _measure(
    span: Span,
    used: Mapping[str, Sums],
    shares: Mapping[str, Mapping[str, float]],
    systems: Mapping[str, str],
    served: Iterable[Served],
    prices: Prices | None,
) -> list[Efficiency]:
    sent: dict[str, int] = defaultdict(int)
    for one in served:
        sent[one.system] += one.count
    found = []
    of_system: dict[str, list[str]] = defaultdict(list)
    for service, system in sorted(systems.items()):
        of_system[system].append(service)
    for service in sorted(used):
        alone = len(of_system[systems[service]]) == 1
        requests, counted_by = _requests([used[service]], sent.get(systems[service]) if alone else None)
        its = shares.get(service, {})
        consumption = Consumption(*_totals([used[service]]), requests, counted_by, its.get("cpu"), its.get("memory"))
        found.append(measure(service, "service", (span.name, span.since, span.until), consumption, prices))
    for system, services in sorted(of_system.items()):
        parts = [used[service] for service in services]
        consumption = Consumption(*_totals(parts), *_requests(parts, sent.get(system)))
        found.append(measure(system, "system", (span.name, span.since, span.until), consumption, prices))
    if used:
        total = float(sum(sent.values())) or None
        whole = Consumption(*_totals(list(used.values())), total, "runs" if total else "")
        found.append(measure("all", "all", (span.name, span.since, span.until), whole, prices))
    return found


def _totals(parts: Sequence[Sums]) -> tuple[float | None, float | None]:
    """CPU-seconds and MB-seconds; None where one of the parts does not tell them."""
    cpu, memory = ([part.get(metric) for part in parts] for metric in ("cpu_cores", "memory_usage"))
    return _sum(cpu), _sum(memory)


def _requests(parts: Sequence[Sums], sent: int | None) -> tuple[float | None, Literal["service", "runs", ""]]:
    """As the services counted them, calls of other services included; else as runs sent them."""
    counted = _sum([part.get("request_rate") for part in parts])
    if counted is not None:
        return counted, "service"
    return (float(sent), "runs") if sent else (None, "")


def _sum(told: Sequence[float | None]) -> float | None:
    known = [value for value in told if value is not None]
    return math.fsum(known) if len(known) == len(told) and known else None
