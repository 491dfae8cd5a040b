"""From stress runs with different numbers of replicas to points to fit, and the fit in words. Pure."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from services.console.scalability import Estimate, Point, Scaling
from shared.contracts.stress import StressSearch
from shared.errors import ConfigError

TAG = "replicas"
DEVIATIONS = 1.96
POINT_COLUMNS = ("run", "#replicas", "#throughput", "#by the law")


def read_point(report: Mapping[str, Any], service: str) -> Point:
    """Throughput at the breaking point of a run; ``ConfigError`` where there is none, or replicas are not known."""
    run, section = str(report["run"]["run"]), report.get("stress")
    if not section:
        raise ConfigError(f"run {run} searched no breaking point; measure it with tidegate run … --profile stress")
    answer = StressSearch.model_validate(section).answer
    if answer is None or not answer.found or not answer.throughput:
        raise ConfigError(f"run {run} found no breaking point: {answer.reason if answer else 'it ended before'}")
    error = None
    if answer.low and answer.high:
        error = answer.throughput * math.log(answer.high / answer.low) / 2 / DEVIATIONS
    return Point(_replicas(report, service, run), answer.throughput, error)


def _replicas(report: Mapping[str, Any], service: str, run: str) -> int:
    """The run's tag, else what was ready of the service all the time."""
    tag = report["stress"].get("tags", {}).get(TAG)
    if tag is not None:
        if not str(tag).isdecimal() or int(tag) < 1:
            raise ConfigError(f"run {run}: tag {TAG}={tag}: give a number of replicas, e.g. {TAG}=3")
        return int(tag)
    points = (report.get("timeline") or {}).get("points") or ()
    seen = Counter(point["replicas"][service] for point in points if service in (point.get("replicas") or {}))
    if not seen:
        raise ConfigError(f"run {run} does not say how many replicas {service} had; start it with --tag {TAG}=N")
    if len(seen) > 1:
        said = " to ".join(str(count) for count in (min(seen), max(seen)))
        raise ConfigError(f"run {run}: {service} had {said} replicas; pin their number, see docs/stress.md")
    return int(next(iter(seen)))


def describe_scaling(scaling: Scaling) -> list[str]:
    """What was fitted, line by line."""
    lines = [
        f"per replica λ {_say(scaling.per_replica, '.4g')}/s, contention σ {_say(scaling.contention, '.2%')}, "
        f"coherency κ {_say(scaling.coherency, '.3%')}",
        f"explains {scaling.fit:.1%} of the variance, off by {scaling.misfit:.1%} of a throughput",
    ]
    if scaling.peak_replicas is not None and scaling.peak_throughput is not None:
        lines.append(
            f"the most is carried by {_say(scaling.peak_replicas, '.1f')} replicas: "
            f"{_say(scaling.peak_throughput, '.4g')}/s"
        )
    if scaling.ceiling is not None:
        lines.append(f"it tends to {scaling.ceiling:.4g}/s")
    return [*lines, scaling.note] if scaling.note else lines


def rows_of(runs: Sequence[str], points: Sequence[Point], predicted: Sequence[float]) -> list[tuple[str, ...]]:
    """Rows of ``POINT_COLUMNS``, by replicas."""
    listed = sorted(zip(points, runs, predicted, strict=True), key=lambda one: one[0].replicas)
    return [
        (run, str(point.replicas), f"{point.throughput:,.4g}/s", f"{by_law:,.4g}/s") for point, run, by_law in listed
    ]


def _say(estimate: Estimate, form: str) -> str:
    return f"{estimate.value:{form}} ({estimate.low:{form}} to {estimate.high:{form}})"
