"""Resource samples of the last minute and a half, and the readings and totals made of them. Pure: ``now`` is passed.

A sample delivered again changes nothing: it is kept under its instance and time. Memory is bounded by the span.
"""

import math
from collections.abc import Iterable

from services.scaler.effect import REQUEST_RATE
from services.scaler.situation import LATEST_S, Reading
from shared.contracts.resource import ResourceSample

KEPT_S = 90.0
NO_TRAFFIC_PER_S = 0.5
"""Requests/s per instance up to which a latency without any sample means that nobody asked."""


class SampleWindow:
    """The samples of every service."""

    def __init__(self) -> None:
        self._samples: dict[str, dict[str, dict[float, ResourceSample]]] = {}

    def add(self, sample: ResourceSample) -> None:
        """Take one sample, in any order."""
        at_s = sample.at.timestamp()
        series = self._samples.setdefault(sample.service, {}).setdefault(sample.instance, {})
        series[at_s] = sample
        horizon_s = max(series) - KEPT_S
        for old in [at for at in series if at < horizon_s]:
            del series[old]

    def prune(self, now_s: float) -> None:
        """Forget instances that have been silent for the whole span."""
        for instances in self._samples.values():
            for instance in [name for name, series in instances.items() if max(series) < now_s - KEPT_S]:
                del instances[instance]

    def ready_instances(self, service: str, now_s: float, freshness_s: float) -> set[str]:
        """Instances that said they were ready, not longer ago than ``freshness_s``."""
        instances = self._samples.get(service, {})
        return {
            name
            for name, series in instances.items()
            if (last := max(series)) >= now_s - freshness_s and series[last].ready
        }

    def reading(
        self, service: str, metric: str, now_s: float, *, window_s: float, freshness_s: float, ready: int
    ) -> Reading:
        """One metric over the last ``window_s``: each instance's mean, then the mean of these.

        An instance counts when its last value is not older than ``freshness_s``. ``ready``: how many the target says
        there are; those that did not report are missing.
        """
        means: dict[str, float] = {}
        latest: list[float] = []
        span_s = 0.0
        for name in self.ready_instances(service, now_s, freshness_s):
            points = self._points(service, name, metric, now_s - window_s, now_s)
            if points and points[-1][0] >= now_s - freshness_s:
                means[name] = _mean(value for _, value in points)
                newest_s = points[-1][0]
                span_s = max(span_s, newest_s - points[0][0])
                latest.append(_mean(value for at, value in points if at > newest_s - LATEST_S))
        if not means:
            return Reading(missing=ready)
        return Reading(
            value=round(_mean(means.values()), 6),
            latest=round(_mean(latest), 6),
            reported=len(means),
            missing=max(0, ready - len(means)),
            span_s=round(span_s, 3),
            instances={name: round(means[name], 6) for name in sorted(means)},
        )

    def no_traffic(self, rate: Reading) -> bool:
        """Whether a complete reading of the request rate says that nobody asked."""
        return rate.missing == 0 and rate.value is not None and rate.value <= NO_TRAFFIC_PER_S

    def measured(self, service: str, begin_s: float, end_s: float) -> dict[str, float]:
        """Every metric of a service over a span, as the mean of all its samples; requests/s also as a total."""
        sums: dict[str, list[float]] = {}
        total = 0.0
        for name in self._samples.get(service, {}):
            span = [s for at, s in self._samples[service][name].items() if begin_s <= at <= end_s]
            for sample in span:
                for metric, value in sample.values.items():
                    if math.isfinite(value):
                        sums.setdefault(metric, []).append(value)
            rates = [s.values["request_rate"] for s in span if "request_rate" in s.values]
            total += _mean(rates) if rates else 0.0
        result = {metric: round(_mean(values), 6) for metric, values in sums.items()}
        if "request_rate" in result:
            result[REQUEST_RATE] = round(total, 6)
        return result

    def _points(self, service: str, name: str, metric: str, begin_s: float, end_s: float) -> list[tuple[float, float]]:
        series = self._samples[service][name]
        return [
            (at, sample.values[metric])
            for at, sample in sorted(series.items())
            if begin_s <= at <= end_s and math.isfinite(sample.values.get(metric, math.nan))
        ]


def _mean(values: Iterable[float]) -> float:
    kept = list(values)
    return sum(kept) / len(kept)
