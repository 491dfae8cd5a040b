"""What services used over a span: means, percentiles, peaks and slack, per replica, per service and in all. Pure.

Of steps of time (``UsageStep``). Percentiles are nearest-rank over the means of the steps, each replica's step counting
once; a peak is the most that any sample told. A sum over replicas is that of the means of one step. What nobody told
is absent, never zero.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import fmean, median

from services.scaler.situation import Sizes
from shared.store.figures import UsageStep

SUMMED = (
    *("cpu_cores", "memory_usage", "request_rate"),
    *("network_received", "network_sent", "network_errors", "network_drops"),
    *("storage_read", "storage_written", "storage_reads", "storage_writes", "storage_used"),
)
"""Metrics whose sum over replicas and services means something."""
MOST_TOLD = ("cpu_usage", "memory_ratio", "storage_ratio", "gpu_usage")


@dataclass(frozen=True, slots=True)
class Summary:
    """In the unit of its metric. ``samples``: how many values it is made of."""

    mean: float
    p90: float
    p95: float
    peak: float
    peak_at: datetime
    last: float
    samples: int


@dataclass(frozen=True, slots=True)
class Slack:
    """What is held and not used: ``held`` less the 95th percentile of ``used``, per replica; cores or MB.

    ``of``: whether held is what is reserved, or the limit where no reservation is known. Negative: more is used than
    was reserved.
    """

    held: float
    used_p95: float
    of: str

    @property
    def free(self) -> float:
        return self.held - self.used_p95

    @property
    def share(self) -> float:
        """Of what is held."""
        return self.free / self.held


@dataclass(frozen=True, slots=True)
class ServiceUsage:
    """``replica``: by metric, over each replica's steps. ``whole``: by metric of ``SUMMED``, over their sums.

    ``replicas``: mean number that told anything. ``slack``: by ``cpu`` and ``memory``, where anything held is known.
    ``sizes``: those given, else limits as the samples tell them.
    """

    service: str
    system: str
    replicas: float
    replica: Mapping[str, Summary]
    whole: Mapping[str, Summary]
    sizes: Sizes
    slack: Mapping[str, Slack] = field(default_factory=dict)


def summarize_services(steps: Sequence[UsageStep], sizes: Mapping[str, Sizes] | None = None) -> list[ServiceUsage]:
    """Each service by name. ``sizes``: of one replica by service, as the target tells them."""
    by_service: dict[str, list[UsageStep]] = defaultdict(list)
    for step in steps:
        by_service[step.service].append(step)
    return [_service(its, (sizes or {}).get(service)) for service, its in sorted(by_service.items())]


def summarize_whole(steps: Iterable[UsageStep]) -> dict[str, Summary]:
    """By metric of ``SUMMED``, the sum over all services."""
    return _sums(steps)


def sum_steps(steps: Iterable[UsageStep]) -> dict[str, dict[datetime, float]]:
    """By metric of ``SUMMED``, the sum over replicas of each step: the time series of one service or of all."""
    sums: dict[str, dict[datetime, float]] = defaultdict(dict)
    for step in steps:
        if step.metric in SUMMED:
            told = sums[step.metric]
            told[step.at] = told.get(step.at, 0.0) + step.mean
    return {metric: dict(sorted(told.items())) for metric, told in sums.items()}


def peak_steps(steps: Iterable[UsageStep]) -> dict[str, dict[datetime, float]]:
    """By metric of which the fullest replica counts, the most within each step."""
    most: dict[str, dict[datetime, float]] = defaultdict(dict)
    for step in steps:
        if step.metric in MOST_TOLD:
            told = most[step.metric]
            told[step.at] = max(told.get(step.at, -math.inf), step.most)
    return {metric: dict(sorted(told.items())) for metric, told in most.items()}


def percentile(values: Sequence[float], q: float) -> float:
    """Nearest rank; of at least one value."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(q * len(ordered) - 1e-9) - 1)]


def _service(steps: Sequence[UsageStep], given: Sizes | None) -> ServiceUsage:
    replica = _by_metric(steps)
    moments: dict[datetime, set[str]] = defaultdict(set)
    for step in steps:
        moments[step.at].add(step.instance)
    sizes = given if given is not None else told_limits(steps)
    return ServiceUsage(
        service=steps[0].service,
        system=steps[0].system,
        replicas=fmean(len(instances) for instances in moments.values()),
        replica=replica,
        whole=_sums(steps),
        sizes=sizes,
        slack={
            name: slack
            for name, metric, reserved, limit in (
                ("cpu", "cpu_cores", sizes.cpu_reserved, sizes.cpu_limit),
                ("memory", "memory_usage", sizes.memory_reserved, sizes.memory_limit),
            )
            if (slack := _slack(replica.get(metric), reserved, limit)) is not None
        },
    )


def told_limits(steps: Iterable[UsageStep]) -> Sizes:
    """The limits of one replica, from amounts and their ratios of the same step; medians, to four figures."""
    told: dict[tuple[str, datetime], dict[str, float]] = defaultdict(dict)
    for step in steps:
        told[step.instance, step.at][step.metric] = step.mean

    def limit(amount: str, ratio: str) -> float | None:
        found = [values[amount] / values[ratio] for values in told.values() if amount in values and values.get(ratio)]
        return float(f"{median(found):.4g}") if found else None

    return Sizes(cpu_limit=limit("cpu_cores", "cpu_usage"), memory_limit=limit("memory_usage", "memory_ratio"))


def _slack(used: Summary | None, reserved: float | None, limit: float | None) -> Slack | None:
    held = reserved if reserved is not None else limit
    if used is None or not held:
        return None
    return Slack(held, used.p95, "limit" if reserved is None else "reserved")


def _by_metric(steps: Iterable[UsageStep]) -> dict[str, Summary]:
    by_metric: dict[str, list[UsageStep]] = defaultdict(list)
    for step in steps:
        by_metric[step.metric].append(step)
    return {metric: _summary(its) for metric, its in sorted(by_metric.items())}


def _summary(steps: Sequence[UsageStep]) -> Summary:
    samples = sum(step.samples for step in steps)
    highest, last = max(steps, key=lambda step: step.most), max(steps, key=lambda step: step.at)
    means = [step.mean for step in steps]
    return Summary(
        mean=math.fsum(step.mean * step.samples for step in steps) / samples,
        p90=percentile(means, 0.9),
        p95=percentile(means, 0.95),
        peak=highest.most,
        peak_at=highest.most_at,
        last=last.mean,
        samples=samples,
    )


def _sums(steps: Iterable[UsageStep]) -> dict[str, Summary]:
    listed = list(steps)
    samples: dict[str, int] = defaultdict(int)
    for step in listed:
        samples[step.metric] += step.samples
    return {metric: _of_sums(told, samples[metric]) for metric, told in sorted(sum_steps(listed).items())}


def _of_sums(told: Mapping[datetime, float], samples: int) -> Summary:
    values = list(told.values())
    peak_at = max(told, key=lambda at: told[at])
    return Summary(
        mean=fmean(values),
        p90=percentile(values, 0.9),
        p95=percentile(values, 0.95),
        peak=told[peak_at],
        peak_at=peak_at,
        last=values[-1],
        samples=samples,
    )
