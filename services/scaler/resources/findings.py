"""All that is told of resources over one span, in one value and as JSON: usage, calls, leaks, efficiency. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from services.scaler.resources.calls import CallSummary, summarize_calls
from services.scaler.resources.consumption import Span, measure_days, measure_span
from services.scaler.resources.efficiency import Efficiency, Trend, find_trends
from services.scaler.resources.leak import Leak, find_leaks
from services.scaler.resources.usage import (
    ServiceUsage,
    Summary,
    peak_steps,
    sum_steps,
    summarize_services,
    summarize_whole,
)
from services.scaler.situation import Sizes
from shared.contracts.prices import Prices
from shared.contracts.resource import RESOURCE_UNITS
from shared.store.figures import CallTimes, MemoryPoint, Served, UsageDay, UsageStep

EXPECTED = tuple(name for name in RESOURCE_UNITS if not name.startswith(("gpu_", "open_", "threads")))
"""Metrics of which it is said that a service does not tell them."""
Series = Mapping[str, Mapping[str, Mapping[datetime, float]]]


@dataclass(frozen=True, slots=True)
class PastRun:
    """What was used while a run went on, and what it sent."""

    span: Span
    step: timedelta
    steps: Sequence[UsageStep]
    served: Sequence[Served]


@dataclass(frozen=True, slots=True)
class Observed:
    """What the store and the targets told. ``step``: of ``steps``. ``sizes``: of one replica by service. ``runs``: past
    ones, oldest first; ``days`` and ``served_by_day``: of past days."""

    span: Span
    step: timedelta
    steps: Sequence[UsageStep]
    memory: Sequence[MemoryPoint] = ()
    calls: Sequence[CallTimes] = ()
    served: Sequence[Served] = ()
    sizes: Mapping[str, Sizes] = field(default_factory=dict)
    runs: Sequence[PastRun] = ()
    days: Sequence[UsageDay] = ()
    served_by_day: Sequence[Served] = ()


@dataclass(frozen=True, slots=True)
class Findings:
    """``not_told``: by service, metrics that nothing told of it. ``series``: by service (``all`` for their sum), metric
    and begin of a step; of ratios the fullest replica's most, of amounts and rates the sum. ``history``: efficiency of
    past runs and days; ``trends``: of the days.
    """

    span: Span
    step_s: float
    services: Sequence[ServiceUsage]
    whole: Mapping[str, Summary]
    not_told: Mapping[str, Sequence[str]]
    calls: Sequence[CallSummary]
    leaks: Sequence[Leak]
    efficiency: Sequence[Efficiency]
    history: Sequence[Efficiency]
    trends: Sequence[Trend]
    series: Series
    prices: Prices | None = None

    def as_json(self) -> dict[str, Any]:
        """Times are ISO 8601; series are lists of (Unix seconds, value). What nobody told is absent or null."""
        told = {
            "since": self.span.since,
            "until": self.span.until,
            "step_s": self.step_s,
            "prices": None if self.prices is None else self.prices.model_dump(),
            "units": {**RESOURCE_UNITS, "request_rate": "requests/s"},
            "services": [_of_service(one, self.not_told.get(one.service, ())) for one in self.services],
            "total": {metric: asdict(summary) for metric, summary in self.whole.items()},
            "calls": [asdict(call) for call in self.calls],
            "leaks": [asdict(leak) for leak in self.leaks],
            "efficiency": [asdict(one) for one in self.efficiency],
            "history": [asdict(one) for one in self.history],
            "trends": [{**asdict(trend), "direction": trend.direction} for trend in self.trends],
            "series": {
                name: {
                    metric: [[at.timestamp(), value] for at, value in points.items()] for metric, points in its.items()
                }
                for name, its in self.series.items()
            },
        }
        plain = _plain(told)
        assert isinstance(plain, dict)  # noqa: S101 - it was one
        return plain


def find(observed: Observed, prices: Prices | None) -> Findings:
    """Everything at once."""
    services = summarize_services(observed.steps, observed.sizes)
    days = measure_days(observed.days, observed.served_by_day, prices)
    runs = [one for run in observed.runs for one in _of_run(run, prices)]
    slacks = {one.service: one.slack for one in services}
    return Findings(
        span=observed.span,
        step_s=observed.step.total_seconds(),
        services=services,
        whole=summarize_whole(observed.steps),
        not_told={one.service: [name for name in EXPECTED if name not in one.replica] for one in services},
        calls=summarize_calls(observed.calls),
        leaks=find_leaks(observed.memory),
        efficiency=measure_span(observed.span, observed.step, observed.steps, observed.served, slacks, prices),
        history=[*runs, *days],
        trends=find_trends(days),
        series=_series(observed.steps),
        prices=prices,
    )


def _of_run(run: PastRun, prices: Prices | None) -> list[Efficiency]:
    slacks = {one.service: one.slack for one in summarize_services(run.steps)}
    return measure_span(run.span, run.step, run.steps, run.served, slacks, prices)


def _series(steps: Sequence[UsageStep]) -> dict[str, Mapping[str, Mapping[datetime, float]]]:
    services = sorted({step.service for step in steps})
    of_each = {service: [step for step in steps if step.service == service] for service in services}
    told: dict[str, Mapping[str, Mapping[datetime, float]]] = {
        service: {**sum_steps(its), **peak_steps(its)} for service, its in of_each.items()
    }
    return {**told, "all": sum_steps(steps)} if told else {}


def _of_service(usage: ServiceUsage, not_told: Sequence[str]) -> dict[str, Any]:
    return {
        "service": usage.service,
        "system": usage.system,
        "replicas": usage.replicas,
        "sizes": usage.sizes.model_dump(),
        "slack": {
            name: {"held": one.held, "of": one.of, "used_p95": one.used_p95, "free": one.free, "share": one.share}
            for name, one in usage.slack.items()
        },
        "replica": {metric: asdict(summary) for metric, summary in usage.replica.items()},
        "total": {metric: asdict(summary) for metric, summary in usage.whole.items()},
        "not_told": list(not_told),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value.isoformat() if isinstance(value, datetime) else value
