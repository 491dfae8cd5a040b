"""The course of a run over time, for its report: what was timed, users, replicas, resources, the generator. Pure."""

from typing import Any

from services.validator.facts import Facts
from shared.contracts.benchmarks import Benchmarks
from shared.contracts.timing import Kind
from shared.store.figures import Step

Json = dict[str, Any]
ALWAYS_SHOWN = frozenset({"cpu_usage", "memory_usage", "gpu_usage", "queue_length", "requests_in_flight"})


def timeline(benchmarks: Benchmarks, facts: Facts) -> Json:
    """A point every ``step_s`` s (Unix epoch); what was not told in a step is absent or null, never zero."""
    step = facts.step_s
    points: dict[int, Json] = {}

    def point(second: int) -> Json:
        at = second // step * step
        told: Json = {"systems": {}, "workflows": {}, "replicas": {}, "resources": {}}
        return points.setdefault(at, {"second": at, "users": None, "in_flight": None, **told})

    for seen in facts.observed.users:
        point(seen.second).update(users=seen.users, in_flight=seen.in_flight)
    for row in facts.timeline:
        at = point(row.second)
        if row.kind == Kind.WORKFLOW:
            at["workflows"][row.scenario] = _step(row, step)
        else:
            at["systems"][row.system] = _step(row, step)
    for told in facts.replicas:
        point(told["second"])["replicas"][told["service"]] = told["ready"]
    shown = ALWAYS_SHOWN | {
        benchmark.resource
        for owner in benchmarks.systems.values()
        for benchmark in owner.benchmarks
        if benchmark.resource
    }
    for told in facts.resources:
        if told["metric"] in shown:
            of_service = point(told["second"])["resources"].setdefault(told["service"], {})
            of_service[told["metric"]] = _short(told["mean"])
    return {"step_s": step, "points": [points[second] for second in sorted(points)]}


def generator_course(facts: Facts) -> list[Json]:
    """The worst of all workers at each moment."""
    return [
        {
            "second": at.second,
            "loop_lag_ms": at.loop_lag_ms,
            "schedule_error_ms": at.schedule_error_ms,
            "cpu": at.cpu,
            "backlog_events": at.backlog_events,
        }
        for at in facts.observed.generator
    ]


def _step(row: Step, step_s: int) -> Json:
    names = (f"{of}_{percentile}_ms" for of in ("service", "response") for percentile in ("p50", "p95", "p99"))
    return {
        "rate": _short(row.count / step_s),
        "errors": row.failed,
        "p95_ms": _short(row.response_p95_ms),
        **{name: _short(getattr(row, name)) for name in names},
    }


def _short(value: float) -> float:
    """Five figures: more would be bytes without meaning."""
    return float(f"{value:.5g}")
