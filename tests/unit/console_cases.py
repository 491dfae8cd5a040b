"""Breaches, scaling records and reports for the console's tests, each with few fields to say."""

from datetime import UTC, datetime, timedelta
from typing import Any

from services.console.report_rows import Dossier
from shared.contracts.breach import Breach, BreachStatus, BreachWindow
from shared.contracts.scaling import GENESIS, Action, ScalingRecord

GATE = {
    "scenario": "small",
    "action": "",
    "metric": "workflow_execution_time",
    "statistic": "mean",
    "unit": "ms",
    "target": 45_000.0,
    "actual": 50_000.0,
    "deviation": 0.11,
    "verdict": "missed",
    "samples": 31,
    "note": "slow",
}
BEGUN = datetime(2026, 11, 23, 15, 30, tzinfo=UTC)
ENDED = BEGUN + timedelta(seconds=60)


def at(seconds: float) -> datetime:
    return BEGUN + timedelta(seconds=seconds)


def breach(status: BreachStatus = BreachStatus.OPENED, resolved_s: float | None = None, **changes: Any) -> Breach:
    resolved_at = None if resolved_s is None else at(resolved_s)
    whole = Breach(
        breach="b1",
        revision=1,
        status=status,
        environment="local",
        run="run-1",
        system="relaycore",
        service="relaycore",
        metric="routing_latency",
        series="relaycore",
        level="critical",
        statistic="mean",
        value=132.0,
        limit=100.0,
        target=50.0,
        critical=100.0,
        unit="ms",
        better="lower",
        confidence=0.99,
        samples=10,
        window=BreachWindow(start=at(4), end=at(10), seconds=6),
        opened_at=at(10),
        resolved_at=resolved_at,
    )
    return whole.model_copy(update=changes)


def record(kind: str = "decision", decision: str = "d1", at_s: float = 12.0, **fields: Any) -> ScalingRecord:
    own: dict[str, Any] = {}
    if kind == "decision":
        own = {"action": Action.SCALE_UP, "current": 2, "target": 4, "reason": "routing_latency is 132, above 75"}
    elif kind == "result":
        own = {"ok": True, "ready": 4, "took_s": 1.5}
    return ScalingRecord.model_validate(
        {
            "kind": kind,
            "decision": decision,
            "service": "relaycore",
            "system": "relaycore",
            "environment": "local",
            "at": at(at_s),
            "sequence": 1,
            "lease_epoch": 1,
            "previous_hash": GENESIS,
            **own,
            **fields,
        }
    )


def result(action: str = "look", sent: int = 10, **changes: Any) -> dict[str, Any]:
    times = {"mean": 5.0, "p50": 4.0, "p90": 9.0, "p95": 12.5, "p99": 20.0, "p999": 30.0, "max": 31.0}
    row = {
        "system": "autmatrix",
        "scenario": "small",
        "action": action,
        "sent": sent,
        "stored": sent,
        "held": 0,
        "missing": 0,
        "duplicates": 0,
        "failed": 0,
        "throughput": 1.5,
        "response_time_ms": times,
    }
    return {**row, **changes}


def comparison(verdict: str = "met", **changes: Any) -> dict[str, Any]:
    row = {
        "system": "autmatrix",
        "metric": "api_response_time",
        "statistic": "p95",
        "unit": "ms",
        "target": 200.0,
        "critical": 500.0,
        "actual": 12.5,
        "deviation": -0.94,
        "verdict": verdict,
        "samples": 10,
        "note": "",
    }
    return {**row, **changes}


def hops(hop: str = "relaycore", **changes: Any) -> dict[str, Any]:
    times = {"mean": 9.0, "p50": 8.0, "p95": 61.0}
    rows = [
        {"hop": hop, "share": 0.61, "calls": 900, "own_ms": times, "path_ms": times},
        {"hop": "neuroweaver-backend", "share": 0.39, "calls": 900, "own_ms": times, "path_ms": times},
    ]
    slowest = [{"trace_id": "ab" * 16, "duration_ms": 812.0, "slowest_hop": hop}]
    section = {"scenario": "small", "traces": 300, "duration_ms": times, "slowest_hop": hop, "hops": rows}
    return {**section, "slowest": slowest, **changes}


def report(**changes: Any) -> dict[str, Any]:
    whole = {
        "run": {
            "run": "run-1",
            "phase": "finished",
            "reason": "",
            "started_at": BEGUN.isoformat(),
            "ended_at": ENDED.isoformat(),
        },
        "verdict": "met",
        "exit_code": 0,
        "overall_score": 97.4,
        "system_scores": {"autmatrix": {"score": 97.4}},
        "critical_issues": [],
        "recommendations": [],
        "benchmark_comparison": [comparison()],
        "gates": [],
        "workflows": [],
        "results": [result()],
        "timeline": {"step_s": 1, "points": []},
    }
    return {**whole, **changes}


def dossier(**changes: Any) -> Dossier:
    resolved = breach(BreachStatus.RESOLVED, resolved_s=35).model_dump(mode="json")
    records = [record(), record("result"), record("effectiveness", verdict="helped")]
    return Dossier(report(**changes), (resolved,), tuple(made.model_dump(mode="json") for made in records))


def advice(text: str = "add relaycore replicas", **changes: Any) -> dict[str, Any]:
    about = {"system": "relaycore", "service": "relaycore", "scenario": "", "metric": "routing_latency"}
    named = {"rule": "own_time_rose", "text": text, "evidence": {"broken_p95_ms": 61.25, "hop": "relaycore"}}
    return {**about, **named, "supported_by": [{"rule": "queue_builds", "text": "9 wait", "evidence": {}}], **changes}


def load_test(name: str = "Small", **changes: Any) -> dict[str, Any]:
    counts = {"total_requests": 1_000, "successful_requests": 990, "failed_requests": 10}
    times = {f"{of}_response_time_ms": value for of, value in (("average", 5.0), ("p95", 12.5), ("p99", 20.0))}
    moments = {"started_at": BEGUN.isoformat(), "ended_at": ENDED.isoformat()}
    rates = {"throughput": 16.7, "error_rate": 0.01, "verdict": "met"}
    return {"name": name, "scenario": "small", **counts, **times, **moments, **rates, **changes}


def slow_trace(**changes: Any) -> dict[str, Any]:
    spans = [
        {"service": "autmatrix-backend", "name": "POST /execute", "depth": 0, "start_ms": 0.0, "duration_ms": 812.0},
        {"service": "relaycore", "name": "queue_wait", "depth": 1, "start_ms": 9.0, "duration_ms": 700.0},
    ]
    call = {"scenario": "small", "trace_id": "ab" * 16, "started_at": 0.0, "duration_ms": 812.0}
    return {**call, "slowest_hop": "relaycore", "spans": spans, **changes}


def distribution(name: str = "autmatrix", **changes: Any) -> dict[str, Any]:
    points = [[q, 10 / (1 - q), 12 / (1 - q)] for q in (0.0, 0.5, 0.9, 0.99, 0.995)]
    return {"of": "requests", "name": name, "count": 200, "points": points, **changes}


def timeline(count: int, system: str = "autmatrix", service: str = "relaycore") -> dict[str, Any]:
    """A point a second from the beginning of the run on."""
    times = {f"{of}_{name}_ms": 20.0 for of in ("service", "response") for name in ("p50", "p95", "p99")}
    points = [
        {
            "second": int(BEGUN.timestamp()) + second,
            "users": second,
            "in_flight": second // 2,
            "systems": {system: {"rate": 10.0 + second, "errors": second % 2, "p95_ms": 20.0, **times}},
            "workflows": {"small": {"rate": 1.0, "errors": 0, **times}},
            "replicas": {service: 2 + second // 10},
            "resources": {service: {"cpu_usage": 0.5, "routing_latency": 40.0}},
        }
        for second in range(count)
    ]
    return {"step_s": 1, "points": points}


def full_dossier(name: str = "small", **changes: Any) -> Dossier:
    """Every section of a report; ``name`` stands wherever something from outside does."""
    sections = {
        "coverage": 0.8,
        "recommendations": [name],
        "recommendation_details": [advice(name, rule=name, evidence={name: name})],
        "critical_issues": [name],
        "tests": [load_test(name)],
        "results": [result(name, system=name, scenario=name)],
        "benchmark_comparison": [comparison(name, metric=name, unit=name), comparison("missed", test="binomial")],
        "gates": [GATE],
        "workflows": [{"scenario": name, "count": 1, "failed": 0, "response_time_ms": {}}],
        "hops": [hops(name, scenario=name, parts=hop_parts(name))],
        "slowest_traces": [slow_trace(scenario=name, trace_id=name, slowest_hop=name)],
        "distributions": [distribution(name)],
        "timeline": timeline(30, name, name),
        "generator_health": {"systems": {name: {"at_fault": False, "seconds": 60}}, "course": generator_course()},
    }
    opened = breach(system="relaycore", recommendation=name, slowest_hop=name).model_dump(mode="json")
    return Dossier(report(**{**sections, **changes}), (opened,), (record(reason=name).model_dump(mode="json"),))


def hop_parts(hop: str) -> dict[str, Any]:
    kept, broken = ({"traces": 20, "path_ms": {hop: ms}} for ms in (9.0, 90.0))
    return {"system": "relaycore", "metric": "routing_latency", "kept": kept, "broken": broken}


def generator_course() -> list[dict[str, Any]]:
    begun = int(BEGUN.timestamp())
    told = {"loop_lag_ms": 3.0, "schedule_error_ms": 1.0, "cpu": 0.4, "backlog_events": 0}
    return [{"second": begun + second, **told} for second in range(10)]
